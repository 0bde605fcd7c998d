"""SuperLoRA (arXiv 2403.11887): the updates of many weights as groups of one long vector, each made by a small model.

dW_group = Shuffle(P(vec(F(theta)))), all groups one after the other cut back into the weights; W = W0 + alpha dW.
Built after the abstract and public parameter counts; not checked against the paper's code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from glora.attach import LINEARS, Adapted, find_blocks, plain_copy
from glora.factors import Factor, FactorSpec
from glora.methods.base import AdaptedLinears
from glora.projection import project, shuffle

GROUPINGS = ("weight", "layer", "group")
TARGETS = ("qv", "all")


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


class _Updates(torch.autograd.Function):
    """All numbers of some groups in one buffer. Backward builds each group again, so nothing but the buffer is kept."""

    @staticmethod
    def forward(ctx: Any, owner: Updates, groups: Sequence[int], *parameters: Tensor) -> Tensor:
        ctx.owner, ctx.groups = owner, groups
        if len(groups) == 1:
            return owner.build(groups[0])
        lengths = [owner.lengths[g] for g in groups]
        buffer = parameters[0].new_empty(sum(lengths))
        for g, part in zip(groups, torch.split(buffer, lengths), strict=True):
            part.copy_(owner.build(g))
        return buffer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        owner: Updates = ctx.owner
        out: list[Tensor] = []
        for g, part in zip(ctx.groups, torch.split(grad, [owner.lengths[g] for g in ctx.groups]), strict=True):
            with torch.enable_grad():
                out += torch.autograd.grad(owner.build(g), tuple(owner.factors[g].parameters()), part)
        return None, None, *out


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
        self._ready: dict[int, Tensor] = {}
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
            made = made[:size]
            return (shuffle(made, seed) if self.mix else made)[: self.lengths[group]]

    def piece(self, index: int) -> Tensor:
        """dW of piece `index`, (d2, d1), without alpha."""
        state = (*(p._version for p in self.parameters()), int(torch.is_grad_enabled()))
        if state != self._made_under:
            self._ready.clear()
        if index not in self._ready:
            groups, members = next(s for s in self._sets if index in s[1])
            parameters = [p for g in groups for p in self.factors[g].parameters()]
            made = _Updates.apply(self, groups, *parameters)
            parts = made.split([self.pieces[i].size for i in members])
            self._ready.update(zip(members, parts, strict=True))
            self._made_under = state
        return self._ready.pop(index).view(self.pieces[index].shape)


class SuperLoRALinear(Adapted):
    """y = W0 x + b0 + alpha dW x, dW on the given pieces (ranges of output rows)."""

    def __init__(self, base: nn.Linear, updates: Updates, pieces: list[int], alpha: float) -> None:
        super().__init__(base)
        self._shared = (updates,)  # a tuple: the factors belong to the model, not to this layer
        self.indices, self.alpha = pieces, alpha

    def _parts(self) -> list[tuple[Piece, Tensor]]:
        updates = self._shared[0]
        return [(updates.pieces[i], updates.piece(i)) for i in self.indices]

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2)."""
        y, out, at = F.linear(x, self.weight, self.bias), [], 0
        for piece, delta in self._parts():
            out += [y[..., at : piece.start], y[..., piece.start : piece.end] + self.alpha * F.linear(x, delta)]
            at = piece.end
        return torch.cat([*out, y[..., at:]], -1)

    @torch.no_grad()
    def merged(self) -> tuple[Tensor, Tensor | None]:
        """W0 + alpha dW on the pieces, b0."""
        weight = self.weight.detach().clone()
        for piece, delta in self._parts():
            weight[piece.start : piece.end].add_(delta, alpha=self.alpha)
        return weight, self.bias


class SuperLoRA(AdaptedLinears):
    """SuperLoRA on the attention's q and v, or on all linear layers, of every block.

    Args:
        grouping: "weight" (one group a matrix), "layer" (one a block) or "group" (`groups` of equal length that cut
            through matrices).
        groups: G of "group"; the last group is padded and the surplus dropped.
        factors: "lora", "kronecker" or "tucker"; `rank`, `order`, `terms`, `factor`, `fold`, `multiple` as in
            `FactorSpec`. `fold` false keeps each matrix's own shape and needs grouping="weight".
        ratio: rho; below 1 the factors make rho of a group's numbers and a fixed random map the rest.
        shuffle: put each group's numbers in a fixed random order.
        alpha: factor of dW.
        targets: "qv" or "all" (attn.qkv, attn.proj, mlp.fc1, mlp.fc2).
        seed: of the fixed maps.

    Raises:
        ValueError: for values that do not fit together.
        NotDefined: on a model without ViT or Swin blocks.
    """

    name = "superlora"

    def __init__(
        self,
        model: nn.Module,
        grouping: str = "group",
        groups: int = 8,
        factors: str = "tucker",
        rank: int = 8,
        order: int = 3,
        terms: int = 1,
        factor: int = -1,
        fold: bool = True,
        multiple: int = 1,
        ratio: float = 1.0,
        shuffle: bool = False,
        alpha: float = 1.0,
        targets: str = "qv",
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        try:
            spec = FactorSpec(factors, rank, order, terms, factor, fold, multiple)
        except ValueError as error:
            raise ValueError(f"method=superlora: {error}") from error
        for key, word, allowed in (("grouping", grouping, GROUPINGS), ("targets", targets, TARGETS)):
            if word not in allowed:
                raise ValueError(f"method=superlora: {key}={word!r} is not one of {', '.join(allowed)}")
        if not fold and (grouping != "weight" or ratio < 1):
            raise ValueError("method=superlora: fold=false keeps a matrix's shape; it needs grouping=weight, ratio=1")
        if not 0 < ratio <= 1:
            raise ValueError(f"method=superlora: ratio={ratio} must be above 0 and at most 1")
        pieces: list[Piece] = []
        bases: dict[str, nn.Linear] = {}
        for i, block in enumerate(find_blocks(model, self.name)):
            for part in LINEARS if targets == "all" else LINEARS[:1]:
                layer, bases_layer = block.linear(part)
                bases[layer] = bases_layer
                d = block.width
                rows = [(0, bases_layer.out_features)] if targets == "all" else [(0, d), (2 * d, 3 * d)]
                pieces += [Piece(layer, i, start, end, bases_layer.in_features) for start, end in rows]
        sizes = self._sizes(pieces, grouping, groups)
        like = next(iter(bases.values())).weight
        self.updates = Updates(pieces, sizes, spec, ratio, shuffle, seed, like)
        for layer, base in bases.items():
            own = [i for i, p in enumerate(pieces) if p.layer == layer]
            self.adapt(layer, SuperLoRALinear(base, self.updates, own, alpha))
        model.add_module("superlora", self.updates)

    @staticmethod
    def _sizes(pieces: list[Piece], grouping: str, groups: int) -> list[int]:
        if grouping == "weight":
            return [p.size for p in pieces]
        if grouping == "layer":
            blocks: dict[int, int] = {}
            for p in pieces:
                blocks[p.block] = blocks.get(p.block, 0) + p.size
            return list(blocks.values())
        total = sum(p.size for p in pieces)
        size = -(-total // max(groups, 1))
        if not 1 <= groups <= total or size * (groups - 1) >= total:
            raise ValueError(f"method=superlora: groups={groups} do not cut {total:,} numbers into equal groups")
        return [size] * groups

    def trainable(self) -> dict[str, nn.Parameter]:
        """The factors of all groups, and the head."""
        return {f"superlora.{n}": p for n, p in self.updates.named_parameters()} | self.head_parameters()

    def merge(self) -> nn.Module:
        """Every update inside its weight, without the factors."""
        plain = plain_copy(self.model, {n: layer.merge() for n, layer in self.layers.items()})
        del plain.superlora
        return plain
