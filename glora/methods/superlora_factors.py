"""Small models of large tensors: low-rank, Kronecker and Tucker factors that write out one flat update (SuperLoRA).

Each starts at an update of exactly zero through exactly one zero tensor: `up` (low rank), `u` (Kronecker), `core`
(Tucker); all others are Kaiming-uniform, so the zero tensor gets a gradient from the first step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FACTORS = ("lora", "kronecker", "tucker")


def near_factors(dimension: int, wanted: int) -> tuple[int, int]:
    """`dimension` as m * n: m is `wanted` where that divides, else the largest divisor up to it and up to the square
    root (-1: up to the square root alone), as LoKr splits a width."""
    if wanted > 0 and dimension % wanted == 0:
        return wanted, dimension // wanted
    limit = math.isqrt(dimension) if wanted == -1 else min(wanted, math.isqrt(dimension))
    m = max(d for d in range(1, limit + 1) if dimension % d == 0)
    return m, dimension // m


def fold_side(length: int, order: int, multiple: int = 1) -> int:
    """The smallest side k with k^order >= length, rounded up to a multiple."""
    side: int = max(1, round(float(length) ** (1 / order)))
    while side**order < length:
        side += 1
    while side > 1 and (side - 1) ** order >= length:
        side -= 1
    return -(-side // multiple) * multiple


class Factor(nn.Module):
    """Base: `zero` names the tensor that starts at zero; `forward` gives the flat update, long enough for its group."""

    zero: str

    def start(self) -> None:
        """(Re)initialise: one zero tensor, the others Kaiming-uniform."""
        for name, p in self.named_parameters():
            if name == self.zero:
                nn.init.zeros_(p)
            else:
                nn.init.kaiming_uniform_(p, a=math.sqrt(5))


class LowRank(Factor):
    """up @ down of shape (rows, columns): r (rows + columns) parameters."""

    zero = "up"

    def __init__(self, rows: int, columns: int, rank: int, like: Tensor) -> None:
        super().__init__()
        self.up = nn.Parameter(like.new_empty(rows, rank))
        self.down = nn.Parameter(like.new_empty(rank, columns))
        self.start()

    def forward(self) -> Tensor:
        """(rows * columns,)."""
        return (self.up @ self.down).flatten()


class Kronecker(Factor):
    """Sum over K terms of U_k kron V_k, V_k a product of rank r, or full (`rank` None)."""

    zero = "u"

    def __init__(
        self, terms: int, small: tuple[int, int], large: tuple[int, int], rank: int | None, like: Tensor
    ) -> None:
        super().__init__()
        self.u = nn.Parameter(like.new_empty(terms, *small))
        if rank is None:
            self.v = nn.Parameter(like.new_empty(terms, *large))
        else:
            self.v_up = nn.Parameter(like.new_empty(terms, large[0], rank))
            self.v_down = nn.Parameter(like.new_empty(terms, rank, large[1]))
        self.full = rank is None
        self.start()

    def forward(self) -> Tensor:
        """(a c * b d,) for U (a, b) and V (c, d)."""
        v = self.v if self.full else self.v_up @ self.v_down
        return torch.einsum("kab,kcd->acbd", self.u, v).flatten()


class Tucker(Factor):
    """A core of side r and one (k, r) matrix per mode: r^d + d r k parameters, k^d numbers."""

    zero = "core"

    def __init__(self, side: int, order: int, rank: int, like: Tensor) -> None:
        super().__init__()
        self.core = nn.Parameter(like.new_empty((rank,) * order))
        self.modes = nn.ParameterList([like.new_empty(side, rank) for _ in range(order)])
        self.start()

    def forward(self) -> Tensor:
        """(k^d,)."""
        made: Tensor = self.core
        for mode in self.modes:  # each contraction takes the first axis and puts the new one last
            made = torch.tensordot(made, mode, dims=([0], [1]))
        return made.flatten()


@dataclass(frozen=True)
class FactorSpec:
    """Which factor model, and how a group folds.

    Args:
        kind: "lora", "kronecker" or "tucker".
        rank: r.
        order: of Tucker, 2 to 5.
        terms: K of the Kronecker sum.
        factor: f, the side of U_k where the group is folded; else LoKr's wanted divisor (-1: near the square root).
        fold: near-square (near-cubic, ...) target; without it the target is the weight's own matrix.
        multiple: the side of the fold is rounded up to a multiple of it.

    Raises:
        ValueError: for values outside these.
    """

    kind: str = "lora"
    rank: int = 8
    order: int = 3
    terms: int = 1
    factor: int = -1
    fold: bool = True
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.kind not in FACTORS:
            raise ValueError(f"factors={self.kind!r} is not one of {', '.join(FACTORS)}")
        if min(self.rank, self.terms, self.multiple) < 1:
            raise ValueError(f"rank={self.rank}, terms={self.terms} and multiple={self.multiple} must be at least 1")
        if not 2 <= self.order <= 5:
            raise ValueError(f"order={self.order} is not one of 2, 3, 4, 5")
        if self.kind == "tucker" and not self.fold:
            raise ValueError("factors='tucker' makes a folded tensor; leave fold=true")
        if self.factor != -1 and self.factor < 1 or self.kind == "kronecker" and self.fold and self.factor < 1:
            raise ValueError(
                f"factor={self.factor}: a folded Kronecker product needs factor=f of at least 1, such as 8"
            )

    def build(self, length: int, shape: tuple[int, int] | None, like: Tensor) -> Factor:
        """The model of a group of `length` numbers; `shape` is the weight's where nothing is folded."""
        if self.kind == "tucker":
            return Tucker(fold_side(length, self.order, self.multiple), self.order, self.rank, like)
        if not self.fold:
            assert shape is not None
            if self.kind == "lora":
                return LowRank(*shape, self.rank, like)
            (a, c), (b, d) = near_factors(shape[0], self.factor), near_factors(shape[1], self.factor)
            return Kronecker(self.terms, (a, b), (c, d), None if self.rank >= max(c, d) / 2 else self.rank, like)
        if self.kind == "lora":
            side = fold_side(length, 2, self.multiple)
            return LowRank(side, side, self.rank, like)
        side = fold_side(length, 2, math.lcm(self.multiple, self.factor))
        large = (side // self.factor,) * 2
        return Kronecker(self.terms, (self.factor,) * 2, (large[0], large[1]), self.rank, like)
