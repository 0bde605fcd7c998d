"""A soup: a subnet with fractional gates, which several subnets average to; merged, it is one plain model.

Averaging the weights of models trained from one start: model soups, Wortsman et al. 2022 (arXiv 2203.05482). Here the
members share their support tensors, and equation 10 is affine in its gates, so averaged gates are averaged weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from glora.gates import FLAGS, Row, gates_length, row_rank
from glora.options import TENSORS

FORMAT, VERSION = "glora soup", 1
Parts = dict[str, dict[str, Any]]
"""Tensor to its gates: "ranks", a number for each column of A, B and C; "vector"; "scalar"."""


@dataclass(frozen=True)
class Soup:
    """One row of gates per layer (`glora.gates.Row`), in layer order. Immutable and hashable.

    Raises:
        ValueError: if the rows are not finite numbers of one rank.
    """

    layers: tuple[Row, ...]

    def __post_init__(self) -> None:
        lengths = {len(row) for row in self.layers}
        if len(lengths) != 1 or lengths != {gates_length(self.max_rank)} or self.max_rank < 1:
            raise ValueError(f"a soup has one row of gates per layer, all of one rank, not rows of {sorted(lengths)}")
        if not all(math.isfinite(gate) for row in self.layers for gate in row):
            raise ValueError("the gates of a soup are finite numbers")

    @property
    def max_rank(self) -> int:
        """The columns that the masks are over."""
        return row_rank(self.layers[0]) if self.layers else 0

    def to_json(self, names: Sequence[str]) -> str:
        """Readable JSON, exact: format, version, and a line per layer with the gates of its five tensors."""
        if len(names) != len(self.layers):
            raise ValueError(f"{len(names)} names for {len(self.layers)} layers")
        rows = [f"    {json.dumps(n)}: {json.dumps(row_parts(row))}" for n, row in zip(names, self.layers, strict=True)]
        head = f'{{\n  "format": {json.dumps(FORMAT)},\n  "version": {VERSION},\n  "layers": {{\n'
        return head + ",\n".join(rows) + "\n  }\n}\n"

    @classmethod
    def from_json(cls, text: str, names: Sequence[str]) -> Soup:
        """Inverse of `to_json`. Raises ValueError if it is no soup of these layers, or of a later version."""
        raw = json.loads(text)
        if not is_soup(raw):
            raise ValueError(f'a soup says "format": "{FORMAT}", which this does not: {text[:100]}')
        if raw.get("version") != VERSION:
            raise ValueError(f"the soup has version {raw.get('version')}, this program reads {VERSION}; update it")
        layers = raw.get("layers")
        if not isinstance(layers, dict) or list(layers) != list(names):
            odd = sorted(set(layers) ^ set(names)) if isinstance(layers, dict) else layers
            raise ValueError(f"the soup's layers are not the model's; differing or out of order: {str(odd)[:200]}")
        return cls(tuple(_row(name, parts) for name, parts in layers.items()))


def is_soup(raw: object) -> bool:
    """Whether a JSON value is a soup's."""
    return isinstance(raw, Mapping) and raw.get("format") == FORMAT


def row_parts(row: Row) -> Parts:
    """The gates of a layer by tensor and kind, for people and plots; D and E have no "ranks", C no "scalar"."""
    rank = row_rank(row)
    parts: Parts = {t: {"ranks": list(row[i * rank : (i + 1) * rank])} if i < 3 else {} for i, t in enumerate(TENSORS)}
    for (tensor, kind), gate in zip(FLAGS, row[3 * rank :], strict=True):
        parts[tensor][kind] = gate
    return parts


def _row(name: str, parts: Any) -> Row:
    """Inverse of `row_parts`, of JSON values that may be anything."""
    kinds = {t: {k for u, k in FLAGS if u == t} | ({"ranks"} if t in "ABC" else set()) for t in TENSORS}
    fits = isinstance(parts, dict) and parts.keys() == kinds.keys()
    if not fits or any(not isinstance(parts[t], dict) or parts[t].keys() != kinds[t] for t in TENSORS):
        wanted = "; ".join(f"{t}: {', '.join(sorted(found))}" for t, found in kinds.items())
        raise ValueError(f"{name}: the gates of a layer are {wanted}")
    masks = [parts[t]["ranks"] for t in "ABC"]
    if not all(isinstance(mask, list) and len(mask) == len(masks[0]) for mask in masks):
        raise ValueError(f"{name}: the ranks of A, B and C are lists of one length")
    row = [*masks[0], *masks[1], *masks[2], *(parts[t][k] for t, k in FLAGS)]
    if not all(isinstance(gate, (int, float)) and not isinstance(gate, bool) for gate in row):
        raise ValueError(f"{name}: gates are numbers")
    return tuple(float(gate) for gate in row)


def row_options(row: Row) -> dict[str, str]:
    """Tensor to its option word where the gates are an option's, else "mixed"."""
    options = {}
    for tensor, gates in row_parts(row).items():
        ranks = list(gates.pop("ranks", ()))
        rank = next((k for k, gate in enumerate(ranks) if gate != 1), len(ranks))
        used = [kind for kind, gate in gates.items() if gate]
        if not any(ranks):
            pure = not used or (len(used) == 1 and gates[used[0]] == 1)
            options[tensor] = (used or ["none"])[0] if pure else "mixed"
        else:
            options[tensor] = f"lora_{rank}" if rank and not used and not any(ranks[rank:]) else "mixed"
    return options


def row_params(row: Row, d_in: int, d_out: int) -> int:
    """What a layer stores of its support tensors with the gates multiplied in, so that no gate is stored.

    Each column of A or B with a gate is a pair of d2 and d1 numbers, of C of d1 and 1. The vector is the first column
    too, so its gate goes into that column's row (v a 1^T + m a u^T = a (m u + v 1)^T) where there is one, else it is
    d2 numbers, C's d1, into which the scalar goes. The scalar is one number beside columns or alone. D and E are d2
    numbers, or the scalar alone. The gates of one subnet give that subnet's parameters.
    """
    total = 0
    for tensor, gates in row_parts(row).items():
        ranks = gates.get("ranks", ())
        width = d_in if tensor == "C" else d_out
        total += sum(gate != 0 for gate in ranks) * (d_in + (1 if tensor == "C" else d_out))
        first, scalar = bool(ranks and ranks[0]), bool(gates.get("scalar"))
        alone = gates["vector"] != 0 and not first
        total += width if alone else int(scalar)
    return total
