"""SuperLoRA's updates: pieces of weight matrices that groups of numbers, each made by a factor model, are cut into.

Beside the frozen weights a step keeps one copy of the adapted ones: dW in forward, and in backward, matrix by matrix in
the same memory, its gradient. On top comes one group, which backward builds again to reach its factors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge

from glora.methods.superlora_factors import Factor, FactorSpec
from glora.methods.superlora_projection import project, shuffle
from glora.product import apply_in_autocast_dtype


@dataclass(frozen=True)
class Piece:
    """One adapted matrix: rows start..end of a linear layer, in which block, and its shape (d2, d1)."""

    layer: str
    block: int
    start: int
    end: int
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """(d2, d1)."""
        return self.end - self.start, self.columns

    @property
    def size(self) -> int:
        """d2 * d1."""
        return self.shape[0] * self.columns


class _Made:
    """dW of the pieces that some groups make, in one buffer, until backward puts their gradient in its place."""

    @torch.no_grad()
    def __init__(self, owner: Updates, groups: Sequence[int], members: Sequence[int]) -> None:
        self.owner, self.groups, self.spent = owner, groups, False
        self.lengths = [owner.lengths[g] for g in groups]
        if len(groups) == 1:
            self.buffer = owner.build(groups[0])
        else:
            self.buffer = next(owner.parameters()).new_empty(sum(self.lengths))
            for g, part in zip(groups, torch.split(self.buffer, self.lengths), strict=True):
                part.copy_(owner.build(g))
        shapes = [owner.pieces[i].shape for i in members]
        flat = torch.split(self.buffer, [rows * columns for rows, columns in shapes])
        self.parts = {i: part.view(shape) for i, part, shape in zip(members, flat, shapes, strict=True)}
        self._without_gradient = set(members)

    def put_gradient(self, index: int, g: Tensor, rows: Tensor) -> None:
        """Replace dW of piece `index` by its gradient g^T rows; g is (T, d2), rows (T, d1)."""
        if index not in self._without_gradient:
            raise RuntimeError("SuperLoRA's backward has replaced dW by its gradient; run forward again before it")
        self._without_gradient.remove(index)
        part = self.parts[index]
        if g.dtype == part.dtype:
            torch.mm(g.t(), rows, out=part)
        else:
            part.copy_(g.t() @ rows)

    def gradient(self) -> Iterator[tuple[int, Tensor]]:
        """Groups and their gradients, flat; zero for pieces that no output came from."""
        self.spent = True
        for index in self._without_gradient:
            self.parts[index].zero_()
        return zip(self.groups, torch.split(self.buffer, self.lengths), strict=True)


class _Ticket(torch.autograd.Function):
    """A zero that ties the factors of some groups to the products of their pieces: its backward follows theirs."""

    @staticmethod
    def forward(ctx: Any, made: _Made, *parameters: Tensor) -> Tensor:
        ctx.made = made
        return parameters[0].new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        owner: Updates = ctx.made.owner
        out: list[Tensor] = []
        for g, part in ctx.made.gradient():
            parameters = tuple(owner.factors[g].parameters())
            with torch.enable_grad():  # the edge alone, so that the numbers themselves are gone before their gradient
                edge = get_gradient_edge(owner.build(g))
            out += torch.autograd.grad((edge,), parameters, (part,))
        return None, *out


class _Product(torch.autograd.Function):
    """x dW^T, whose backward needs dW for the last time and leaves its gradient there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ticket: Tensor, made: _Made, index: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.made, ctx.index = made, index
        return F.linear(x, made.parts[index].to(x.dtype))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x,), made = ctx.saved_tensors, ctx.made
        part = made.parts[ctx.index]
        dx = grad @ part.to(grad.dtype) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return dx, None, None, None
        made.put_gradient(ctx.index, grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1]))
        return dx, part.new_zeros(()), None, None


class Updates(nn.Module):
    """The factor models of all groups, and the pieces of dW they make.

    Groups follow the pieces in order. A piece is handed out once and then dropped: groups that the pieces of several
    layers need are built when the first of those layers asks, and again in the next forward pass.
    """

    def __init__(
        self, pieces: list[Piece], sizes: list[int], spec: FactorSpec, ratio: float, mix: bool, seed: int, like: Tensor
    ) -> None:
        super().__init__()
        self.pieces, self.ratio, self.mix, self.seed = pieces, ratio, mix, seed
        total, at = sum(p.size for p in pieces), 0
        self.lengths: list[int] = []  # without the padding of the last group
        self.factors = nn.ModuleList()
        shapes = [p.shape for p in pieces] if not spec.fold else [None] * len(sizes)
        self.sizes = sizes
        for size, shape in zip(sizes, shapes, strict=True):
            self.factors.append(spec.build(math.ceil(ratio * size), shape, like.detach()))
            self.lengths.append(min(size, total - at))
            at += self.lengths[-1]
        self._ready: dict[int, tuple[_Made, Tensor]] = {}
        self._made_under: tuple[int, ...] = ()
        self._sets = self._connected()

    def _connected(self) -> list[tuple[range, range]]:
        """Smallest runs of groups and of pieces that end together."""
        out, g, p, first_g, first_p, ends_g, ends_p = [], 0, 0, 0, 0, 0, 0
        while p < len(self.pieces) or g < len(self.lengths):
            if ends_g <= ends_p:
                ends_g, g = ends_g + self.lengths[g], g + 1
            else:
                ends_p, p = ends_p + self.pieces[p].size, p + 1
            if ends_g == ends_p:
                out.append((range(first_g, g), range(first_p, p)))
                first_g, first_p = g, p
        return out

    def build(self, group: int) -> Tensor:
        """dW of one group, flat, in the parameters' dtype also under autocast."""
        factor = self.factors[group]
        assert isinstance(factor, Factor)
        size, seed = self.sizes[group], self.seed + group
        with torch.autocast(next(factor.parameters()).device.type, enabled=False):
            made: Tensor = factor()
            if self.ratio < 1:
                made = project(made[: math.ceil(self.ratio * size)], size, seed)
            if not self.mix:  # one cut, not two: the backward of each is a copy
                return made[: self.lengths[group]]
            return shuffle(made[:size], seed)[: self.lengths[group]]

    def _take(self, index: int) -> tuple[_Made, Tensor]:
        """What holds piece `index`, built if need be, and the ticket of its groups."""
        state = (*(p._version for p in self.parameters()), int(torch.is_grad_enabled()))
        if state != self._made_under:
            self._ready.clear()
        if index not in self._ready or self._ready[index][0].spent:
            groups, members = next(s for s in self._sets if index in s[1])
            made = _Made(self, groups, members)
            ticket = _Ticket.apply(made, *(p for g in groups for p in self.factors[g].parameters()))
            self._ready.update(dict.fromkeys(members, (made, ticket)))
            self._made_under = state
        return self._ready.pop(index)

    @torch.no_grad()
    def piece(self, index: int) -> Tensor:
        """dW of piece `index`, (d2, d1), without alpha and without gradients."""
        return self._take(index)[0].parts[index]

    def product(self, index: int, x: Tensor) -> Tensor:
        """x dW^T of piece `index`, for tokens x (..., d1), without alpha; under autocast in its dtype."""
        made, ticket = self._take(index)
        return apply_in_autocast_dtype(_Product, x, ticket, made, index)
