"""The search space of a whole model and its members, the subnets."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter

from glora.gates import Choice
from glora.options import (
    NONE,
    TENSORS,
    LayerConfig,
    Option,
    Words,
    all_configs,
    check_ranks,
    check_tensors,
    config_params,
    layer_options,
    tensor_params,
)
from glora.soup import Soup, is_soup, row_options, row_params, row_parts
from glora.typed import STRICT, Typed, parse

LAYERS = TypeAdapter(dict[str, Words], config=STRICT)
"""A subnet's file: layer name to its five option words."""


class Encoded(Typed):
    """A subnet within the state of a search."""

    layers: list[Words]


@dataclass(frozen=True)
class LayerSpec:
    """One adapted layer: its module name, input width d1, output width d2, and whether it has a bias."""

    name: str
    d_in: int
    d_out: int
    bias: bool = True


@dataclass(frozen=True)
class Subnet:
    """One configuration per layer, in layer order. Immutable and hashable."""

    layers: tuple[LayerConfig, ...]

    def to_json(self, names: Sequence[str]) -> str:
        """Readable JSON: layer name to its five option words."""
        if len(names) != len(self.layers):
            raise ValueError(f"{len(names)} names for {len(self.layers)} layers")
        rows = [
            f"  {json.dumps(n)}: {json.dumps([str(o) for o in c])}" for n, c in zip(names, self.layers, strict=True)
        ]
        return "{\n" + ",\n".join(rows) + "\n}\n"

    @classmethod
    def from_json(cls, text: str, names: Sequence[str]) -> Subnet:
        """Inverse of `to_json`. Raises ValueError if the layers are not exactly `names`."""
        raw = parse(LAYERS.validate_json, text)
        if list(raw) != list(names):
            odd = sorted(set(raw) ^ set(names))
            raise ValueError(f"the subnet's layers are not the model's; differing or out of order: {str(odd)[:200]}")
        return cls(tuple(LayerConfig.parse(raw[n]) for n in names))


@dataclass(frozen=True)
class SearchSpace:
    """All subnets over `layers` with LoRA ranks `ranks` (descending).

    Only `tensors`, letters of equation 10 in its order, may be other than none.
    """

    layers: tuple[LayerSpec, ...]
    ranks: tuple[int, ...]
    tensors: str = "".join(TENSORS)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ranks", check_ranks(self.ranks))
        check_tensors(self.tensors)
        if not self.layers:
            raise ValueError("a search space needs at least one layer")
        if all(self.options_per_layer(i) == 1 for i in range(len(self.layers))):
            raise ValueError("tensors='D' leaves nothing to choose: D has no effect on layers without a bias")

    @property
    def names(self) -> tuple[str, ...]:
        """Layer names in order."""
        return tuple(layer.name for layer in self.layers)

    @cached_property
    def genes(self) -> tuple[tuple[int, str], ...]:
        """(layer index, tensor) for each gene; five a layer."""
        return tuple((i, t) for i in range(len(self.layers)) for t in "ABCDE")

    def options(self, spec: LayerSpec) -> tuple[tuple[Option, ...], ...]:
        """What each tensor of a layer may be, in the order A to E."""
        return layer_options(self.ranks, spec.bias, self.tensors)

    def options_per_layer(self, index: int) -> int:
        """Configurations of one layer: 432 for one rank, 900 for two."""
        return math.prod(len(o) for o in self.options(self.layers[index]))

    @property
    def pairs(self) -> int:
        """Number of (layer, configuration) pairs: 20,736 for ViT-B and one rank."""
        return sum(self.options_per_layer(i) for i in range(len(self.layers)))

    def describe(self) -> str:
        """One line: options per layer, pairs, and the joint size as a power."""
        sizes: dict[int, int] = {}
        for i in range(len(self.layers)):
            sizes[self.options_per_layer(i)] = sizes.get(self.options_per_layer(i), 0) + 1
        power = " x ".join(f"{size}^{count}" for size, count in sizes.items())
        digits = sum(count * math.log10(size) for size, count in sizes.items())
        ranks = ",".join(map(str, self.ranks))
        return (
            f"{len(self.layers)} layers, ranks [{ranks}], {'/'.join(map(str, sizes))} options per layer, "
            f"{self.pairs:,} (layer, option) pairs, {power} = 10^{digits:.1f} subnets"
        )

    def sample(self, rng: random.Random) -> Subnet:
        """A subnet whose every gene is uniform over its options, independently."""
        return Subnet(
            tuple(LayerConfig(*(rng.choice(options) for options in self.options(layer))) for layer in self.layers)
        )

    def mutate(self, parent: Subnet, probability: float, rng: random.Random) -> Subnet:
        """Each gene is redrawn uniformly over its options with `probability` (it may redraw itself)."""
        layers = []
        for config, spec in zip(parent.layers, self.layers, strict=True):
            genes = [
                rng.choice(allowed) if rng.random() < probability else gene
                for gene, allowed in zip(config, self.options(spec), strict=True)
            ]
            layers.append(LayerConfig(*genes))
        return Subnet(tuple(layers))

    def cross(self, one: Subnet, other: Subnet, rng: random.Random) -> Subnet:
        """Each gene from either parent with equal chance."""
        layers = (
            LayerConfig(*(rng.choice(pair) for pair in zip(a, b, strict=True)))
            for a, b in zip(one.layers, other.layers, strict=True)
        )
        return Subnet(tuple(layers))

    def fit(self, subnet: Subnet, low: int, high: int, rng: random.Random) -> Subnet | None:
        """Redraw genes in random order until the size lies in [low, high]; None if that does not succeed.

        A gene is redrawn only among options that bring the size nearer to the interval, so the rest of the draw is
        kept: bare rejection on Swin-B at 1.0 M accepts 0.04 % of the draws, this accepts nearly all.
        """
        layers = [list(c) for c in subnet.layers]
        size = self.params(subnet)
        genes = [(i, t) for i in range(len(layers)) for t in range(5)]
        for _ in range(3):
            rng.shuffle(genes)
            for i, t in genes:
                if low <= size <= high:
                    return Subnet(tuple(LayerConfig(*c) for c in layers))
                spec, current = self.layers[i], layers[i][t]
                allowed = self.options(spec)[t]
                cost = {o: tensor_params(TENSORS[t], o, spec.d_in, spec.d_out) for o in allowed}
                now, gap = cost[current], max(size - high, low - size)
                nearer = [o for o in allowed if max(size + cost[o] - now - high, low - size - cost[o] + now) < gap]
                if nearer:
                    layers[i][t] = rng.choice(nearer)
                    size += cost[layers[i][t]] - now
        return Subnet(tuple(LayerConfig(*c) for c in layers)) if low <= size <= high else None

    def encode(self, subnet: Subnet) -> dict[str, Any]:
        """The five option words of each layer."""
        return {"layers": [[str(o) for o in c] for c in subnet.layers]}

    def decode(self, row: dict[str, Any]) -> Subnet:
        """Inverse of `encode`. Raises ValueError if it is no subnet of this space."""
        subnet = Subnet(tuple(LayerConfig.parse(c) for c in parse(Encoded.model_validate, row).layers))
        self.check(subnet)
        return subnet

    def to_json(self, subnet: Subnet | Soup) -> str:
        """Readable JSON: layer name to its five option words, or to the gates of a soup."""
        return subnet.to_json(self.names)

    def from_json(self, text: str) -> Subnet | Soup:
        """Inverse of `to_json`. Raises ValueError if it is no subnet or soup of this space."""
        choice = Soup.from_json(text, self.names) if is_soup(text) else Subnet.from_json(text, self.names)
        self.check(choice)
        return choice

    def choices(self, subnet: Subnet | Soup) -> dict[str, dict[str, str]]:
        """Layer to tensor to option word; "mixed" where the gates of a soup are not an option's (`gates`)."""
        choices: tuple[Choice, ...] = subnet.layers
        return {n: _options(c) for n, c in zip(self.names, choices, strict=True)}

    def gates(self, soup: Soup) -> dict[str, dict[str, dict[str, Any]]]:
        """Layer to tensor to its gates: "ranks" by column (A, B, C), "vector", "scalar" (not C)."""
        return {n: row_parts(row) for n, row in zip(self.names, soup.layers, strict=True)}

    def sizes(self, subnet: Subnet | Soup) -> dict[str, int]:
        """Parameters by layer; of a soup what it stores (`glora.soup.row_params`)."""
        choices: tuple[Choice, ...] = subnet.layers
        return {s.name: _params(c, s.d_in, s.d_out) for c, s in zip(choices, self.layers, strict=True)}

    def params(self, subnet: Subnet | Soup) -> int:
        """Trainable parameters of a subnet, head not counted."""
        return sum(self.sizes(subnet).values())

    def check(self, subnet: Subnet | Soup) -> None:
        """Raise ValueError unless every choice of `subnet` is in this space."""
        if len(subnet.layers) != len(self.layers):
            raise ValueError(f"subnet has {len(subnet.layers)} layers, the space {len(self.layers)}")
        if isinstance(subnet, Soup):
            self._check_gates(subnet)
            return
        for config, spec in zip(subnet.layers, self.layers, strict=True):
            for tensor, option, allowed in zip("ABCDE", config, self.options(spec), strict=True):
                if option not in allowed:
                    listed = ", ".join(map(str, allowed))
                    raise ValueError(f"{spec.name}: {tensor}={option} is not in the space (allowed: {listed})")

    def everywhere(self, config: LayerConfig) -> Subnet:
        """The subnet with one choice in every layer, but for D where there is no bias: none.

        Raises:
            ValueError: if the choice is not in this space.
        """
        subnet = Subnet(tuple(config if s.bias else replace(config, D=NONE) for s in self.layers))
        self.check(subnet)
        return subnet

    def _check_gates(self, soup: Soup) -> None:
        if soup.max_rank != self.ranks[0]:
            raise ValueError(f"the soup has gates for rank {soup.max_rank}, the space for rank {self.ranks[0]}")
        for row, spec in zip(soup.layers, self.layers, strict=True):
            fixed = [t for t, options in zip(TENSORS, self.options(spec), strict=True) if len(options) == 1]
            parts = row_parts(row)
            used = [t for t in fixed if any(parts[t].get("ranks", ())) or parts[t]["vector"] or parts[t].get("scalar")]
            if used:
                raise ValueError(f"{spec.name}: the soup has gates of {', '.join(used)}, which is not in the space")

    def _extreme(self, largest: bool) -> Subnet:
        pick = max if largest else min
        chosen = []
        for spec in self.layers:
            genes = []
            for tensor, options in zip("ABCDE", self.options(spec), strict=True):
                sizes = [tensor_params(tensor, o, spec.d_in, spec.d_out) for o in options]
                genes.append(options[sizes.index(pick(sizes))])
            chosen.append(LayerConfig(*genes))
        return Subnet(tuple(chosen))

    @cached_property
    def largest(self) -> Subnet:
        """The subnet that uses everything stored."""
        return self._extreme(True)

    @cached_property
    def smallest(self) -> Subnet:
        """None everywhere: the frozen backbone."""
        return self._extreme(False)

    @cached_property
    def extremes(self) -> tuple[Subnet, ...]:
        """The largest, the smallest, and each tensor alone as the largest has it; none twice."""
        alone = (Subnet(tuple(LayerConfig(**{t: getattr(c, t)}) for c in self.largest.layers)) for t in self.tensors)
        return tuple(dict.fromkeys((self.largest, self.smallest, *alone)))

    @property
    def params_range(self) -> tuple[int, int]:
        """Parameters of the smallest and the largest subnet."""
        return self.params(self.smallest), self.params(self.largest)

    def configs(self, index: int) -> tuple[LayerConfig, ...]:
        """Every configuration of layer `index`."""
        return all_configs(self.ranks, self.layers[index].bias, self.tensors)


def _options(choice: Choice) -> dict[str, str]:
    """Tensor to option word."""
    return row_options(choice) if isinstance(choice, tuple) else dict(zip(TENSORS, map(str, choice), strict=True))


def _params(choice: Choice, d_in: int, d_out: int) -> int:
    return row_params(choice, d_in, d_out) if isinstance(choice, tuple) else config_params(choice, d_in, d_out)
