"""NOAH's search space (arXiv 2206.04673): how many prompts, LoRA ranks and adapter units each block of a ViT has."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field

from glora.typed import Count, Typed, parse

MODULES = ("prompt", "lora", "adapter")
Widths = Annotated[list[Count], Field(min_length=1)]


class Encoded(Typed):
    """A subnet within the state of a search."""

    prompt: Widths
    lora: Widths
    adapter: Widths


class _File(Encoded, extra="forbid"):
    pass


@dataclass(frozen=True)
class NOAHSubnet:
    """One width per block for each module; 0 is no such module there, and for prompts: those before stay."""

    prompt: tuple[int, ...]
    lora: tuple[int, ...]
    adapter: tuple[int, ...]

    def __post_init__(self) -> None:
        if len({len(self.prompt), len(self.lora), len(self.adapter)}) > 1 or min(map(min, self.vectors)) < 0:
            raise ValueError(f"a subnet has three vectors of one length, of widths from 0 on, not {self}")

    @property
    def vectors(self) -> tuple[tuple[int, ...], ...]:
        """The three vectors, in the order of `MODULES`."""
        return self.prompt, self.lora, self.adapter

    def __str__(self) -> str:
        return " | ".join(" ".join(map(str, v)) for v in self.vectors)

    @classmethod
    def parse(cls, text: str) -> NOAHSubnet:
        """Inverse of `str`: "5 10 1 | 1 1 5 | 10 1 1".

        Raises:
            ValueError: on anything else.
        """
        parts = [part.split() for part in text.split("|")]
        if len(parts) != 3 or not all(part and all(w.isdecimal() for w in part) for part in parts):
            raise ValueError(
                f"{text!r} is no subnet of NOAH; write one width per block for prompts | LoRA | adapter, such as "
                "'5 10 1 | 1 1 5 | 10 1 1' for three blocks"
            )
        return cls(*(tuple(map(int, part)) for part in parts))


@dataclass(frozen=True)
class NOAHSpace:
    """Each module is active in the first `depth` blocks, with one of `widths` in each of them, and absent after.

    Args:
        blocks: blocks of the ViT; the depths are its quarters, 3, 6, 9 and 12 of 12, rounded up.
        width: channels of the residual stream.
        widths: ascending.
        depth_probability: a module that mutates draws a new depth with it, and else stays (s_prob of the source).
    """

    blocks: int
    width: int
    widths: tuple[int, ...] = (1, 5, 10)
    depth_probability: float = 0.4

    @property
    def depths(self) -> tuple[int, ...]:
        """Allowed depths, ascending."""
        return tuple(sorted({math.ceil(self.blocks * q / 4) for q in (1, 2, 3, 4)}))

    def cost(self, module: str, k: int) -> int:
        """Parameters of one module of width k: k d, k (d + 3d), or 2 k d + k + d (both biases); 0 where k is 0."""
        d = self.width
        return {"prompt": k * d, "lora": 4 * k * d, "adapter": 2 * k * d + k + d if k else 0}[module]

    def params(self, subnet: NOAHSubnet) -> int:
        """Effective trainable parameters, head not counted."""
        return sum(self.cost(m, k) for m, v in zip(MODULES, subnet.vectors, strict=True) for k in v)

    def _uniform(self, depth: int, width: int) -> NOAHSubnet:
        vector = (width,) * depth + (0,) * (self.blocks - depth)
        return NOAHSubnet(vector, vector, vector)

    @property
    def largest(self) -> NOAHSubnet:
        """The widest modules in every block: everything stored."""
        return self._uniform(self.blocks, self.widths[-1])

    @property
    def smallest(self) -> NOAHSubnet:
        """The narrowest modules in the first quarter."""
        return self._uniform(self.depths[0], self.widths[0])

    @property
    def extremes(self) -> tuple[NOAHSubnet, ...]:
        """The largest, the smallest, and each module at its largest beside the smallest others; none twice."""
        alone = (replace(self.smallest, **{m: getattr(self.largest, m)}) for m in MODULES)
        return tuple(dict.fromkeys((self.largest, self.smallest, *alone)))

    @property
    def params_range(self) -> tuple[int, int]:
        """Parameters of the smallest and of the largest subnet."""
        return self.params(self.smallest), self.params(self.largest)

    def describe(self) -> str:
        """One line: blocks, depths, widths and the number of subnets."""
        size = sum(len(self.widths) ** d for d in self.depths) ** len(MODULES)
        return (
            f"{self.blocks} blocks, {len(MODULES)} modules, depths {'/'.join(map(str, self.depths))}, "
            f"widths {'/'.join(map(str, self.widths))}, 10^{math.log10(size):.1f} subnets"
        )

    def check(self, subnet: NOAHSubnet) -> None:
        """Raise ValueError unless every vector has a depth and widths of this space."""
        for module, vector in zip(MODULES, subnet.vectors, strict=True):
            depth = vector.index(0) if 0 in vector else len(vector)
            if len(vector) != self.blocks or depth not in self.depths or any(vector[depth:]):
                raise ValueError(f"{module} {vector}: not active in the first {self.depths} of {self.blocks} blocks")
            if not set(vector[:depth]) <= set(self.widths):
                raise ValueError(f"{module} {vector}: the widths of this space are {self.widths}")

    def sample(self, rng: random.Random) -> NOAHSubnet:
        """Three uniform depths, then uniform widths."""
        depths = [rng.choice(self.depths) for _ in MODULES]
        return NOAHSubnet(*(self._to_depth((), d, rng) for d in depths))

    def _to_depth(self, vector: tuple[int, ...], depth: int, rng: random.Random) -> tuple[int, ...]:
        """Shallower: the tail becomes 0. Deeper: random widths for the new blocks, the others stay."""
        kept = [k for k in vector if k][:depth]
        kept += [rng.choice(self.widths) for _ in range(depth - len(kept))]
        return (*kept, *[0] * (self.blocks - depth))

    def mutate(self, parent: NOAHSubnet, probability: float, rng: random.Random) -> NOAHSubnet:
        """Each module mutates with `probability`, and then draws a new depth with `depth_probability`.

        As published, the widths of blocks that are active already never mutate; they change by crossover alone.
        """
        return NOAHSubnet(
            *(
                self._to_depth(v, rng.choice(self.depths), rng)
                if rng.random() < probability and rng.random() < self.depth_probability
                else v
                for v in parent.vectors
            )
        )

    def cross(self, one: NOAHSubnet, other: NOAHSubnet, rng: random.Random) -> NOAHSubnet:
        """Each module's whole vector from either parent."""
        return NOAHSubnet(*(rng.choice(pair) for pair in zip(one.vectors, other.vectors, strict=True)))

    def fit(self, subnet: NOAHSubnet, low: int, high: int, rng: random.Random) -> NOAHSubnet | None:
        """Redraw widths and depths in random order, only to such as bring the size nearer to [low, high] (ours)."""

        def gap(candidate: NOAHSubnet) -> int:
            size = self.params(candidate)
            return max(size - high, low - size, 0)

        for _ in range(3):
            genes = [(m, i) for m in range(len(MODULES)) for i in range(self.blocks + 1)]
            rng.shuffle(genes)
            for m, i in genes:
                if gap(subnet) == 0:
                    return subnet
                nearer = [n for n in self._neighbours(subnet, m, i, rng) if gap(n) < gap(subnet)]
                subnet = rng.choice(nearer) if nearer else subnet
        return subnet if gap(subnet) == 0 else None

    def _neighbours(self, subnet: NOAHSubnet, m: int, i: int, rng: random.Random) -> Iterator[NOAHSubnet]:
        """Subnets with another width of module m in block i, or, behind the last block, with another depth."""
        vector = subnet.vectors[m]
        if i == self.blocks:
            changed = [self._to_depth(vector, d, rng) for d in self.depths]
        else:
            changed = [(*vector[:i], k, *vector[i + 1 :]) for k in self.widths] if vector[i] else []
        for new in changed:
            yield replace(subnet, **{MODULES[m]: new})

    def encode(self, subnet: NOAHSubnet) -> dict[str, Any]:
        """The three vectors by name."""
        return {m: list(v) for m, v in zip(MODULES, subnet.vectors, strict=True)}

    def decode(self, row: dict[str, Any]) -> NOAHSubnet:
        """Inverse of `encode`. Raises ValueError if it is no subnet of this space."""
        return self._member(parse(Encoded.model_validate, row))

    def _member(self, found: Encoded) -> NOAHSubnet:
        subnet = NOAHSubnet(tuple(found.prompt), tuple(found.lora), tuple(found.adapter))
        self.check(subnet)
        return subnet

    def to_json(self, subnet: NOAHSubnet) -> str:
        """Readable JSON, one line a module."""
        return "{\n" + ",\n".join(f'  "{m}": {json.dumps(v)}' for m, v in self.encode(subnet).items()) + "\n}\n"

    def from_json(self, text: str) -> NOAHSubnet:
        """Inverse of `to_json`.

        Raises:
            ValueError: if it is no subnet of this space.
        """
        return self._member(parse(_File.model_validate_json, text))

    def choices(self, subnet: NOAHSubnet) -> dict[str, dict[str, str]]:
        """Block to module to width."""
        return {
            f"blocks.{i}": {m: str(v[i]) for m, v in zip(MODULES, subnet.vectors, strict=True)}
            for i in range(self.blocks)
        }

    def sizes(self, subnet: NOAHSubnet) -> dict[str, int]:
        """Parameters by block and module."""
        return {
            f"blocks.{i}.{m}": self.cost(m, v[i])
            for i in range(self.blocks)
            for m, v in zip(MODULES, subnet.vectors, strict=True)
        }
