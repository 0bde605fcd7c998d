"""A soup: a subnet with fractional gates, which several subnets average to; merged, it is one plain model.

Averaging the weights of models trained from one start: model soups, Wortsman et al. 2022 (arXiv 2203.05482). Here the
members share their support tensors, and equation 10 is affine in its gates, so averaged gates are averaged weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from glora.gates import FLAGS, Row, gates_length, row_rank
from glora.options import TENSORS
from glora.typed import Typed, parse

FORMAT, VERSION = "glora soup", 1
Gate = Annotated[float, Field(ge=-100, le=100)]
"""In a file: averages lie in [0, 1], and gates that learn leave that by a learning rate times steps."""
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
        layers = parse(_File.model_validate_json, text).layers
        if list(layers) != list(names):
            odd = sorted(set(layers) ^ set(names))
            raise ValueError(f"the soup's layers are not the model's; differing or out of order: {str(odd)[:200]}")
        return cls(tuple(layer.row() for layer in layers.values()))

    @property
    def averages(self) -> bool:
        """Whether the gates can be averages of subnets: all in [0, 1]."""
        return all(0 <= gate <= 1 for row in self.layers for gate in row)


class _Head(Typed):
    format: Literal["glora soup"]


class _Flags(Typed, extra="forbid"):
    vector: Gate
    scalar: Gate


class _Ranked(_Flags):
    ranks: list[Gate]


class _Prompt(Typed, extra="forbid"):
    ranks: list[Gate]
    vector: Gate


class _Layer(Typed, extra="forbid"):
    """The gates of a layer as `row_parts` gives them."""

    A: _Ranked
    B: _Ranked
    C: _Prompt
    D: _Flags
    E: _Flags

    def row(self) -> Row:
        """Inverse of `row_parts`; of masks that differ in length no row of any rank."""
        flags = (getattr(getattr(self, tensor), kind) for tensor, kind in FLAGS)
        return (*self.A.ranks, *self.B.ranks, *self.C.ranks, *flags)

    @field_validator("B", "C")
    @classmethod
    def _as_long_as_a(cls, part: _Ranked | _Prompt, info: ValidationInfo) -> _Ranked | _Prompt:
        if "A" in info.data and len(part.ranks) != len(info.data["A"].ranks):
            raise ValueError("the ranks of A, B and C are lists of one length")
        return part


class _File(_Head):
    version: int
    layers: dict[str, _Layer]

    @field_validator("version")
    @classmethod
    def _known(cls, version: int) -> int:
        if version != VERSION:
            raise ValueError(f"the soup has version {version}, this program reads {VERSION}; update it")
        return version


def is_soup(text: str) -> bool:
    """Whether a JSON text says that it is a soup's."""
    try:
        parse(_Head.model_validate_json, text)
    except ValueError:
        return False
    return True


def row_parts(row: Row) -> Parts:
    """The gates of a layer by tensor and kind, for people and plots; D and E have no "ranks", C no "scalar"."""
    rank = row_rank(row)
    parts: Parts = {t: {"ranks": list(row[i * rank : (i + 1) * rank])} if i < 3 else {} for i, t in enumerate(TENSORS)}
    for (tensor, kind), gate in zip(FLAGS, row[3 * rank :], strict=True):
        parts[tensor][kind] = gate
    return parts


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
