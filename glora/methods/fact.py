"""FacT (arXiv 2212.03145): updates of all linear layers from one shared pair U, V and small cores, as TT or as TK.

On a ViT of one width the pair is shared by the whole model. On a Swin, where the paper defines nothing, each stage
width has a pair (and, for TK, a core) of its own and the patch mergings are left alone: that part is this project's.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.attach import LINEARS, Adapted, Block, NotDefined, find_blocks, plain_copy
from glora.methods.base import AdaptedLinears


class Factors(nn.Module):
    """U (rank, d), V (d, rank) and the (rank, rank) cores of `blocks` blocks with `slots` cores each.

    Tensor train: one stored core per slot. Tucker: slice_j = sum_k C[:, :, k] P[k, j], one slice per slot; q, k, v and
    proj take theirs as cores, the MLP's cores are cut out of its `ratio` slices across them (see `slices`).
    """

    def __init__(self, form: str, rank: int, width: int, blocks: int, ratio: int, like: Tensor) -> None:
        super().__init__()
        self.form, self.slots, self.ratio = form, 4 + 2 * ratio, ratio

        def uniform(bound: float, *shape: int) -> nn.Parameter:
            return nn.Parameter(like.detach().new_empty(shape).uniform_(-bound, bound))

        self.u = uniform(1 / math.sqrt(width), rank, width)
        self.v = nn.Parameter(like.detach().new_zeros(width, rank))
        if form == "tt":
            self.cores = uniform(1 / math.sqrt(rank), blocks, self.slots, rank, rank)
            with torch.no_grad():  # fc2's core takes `ratio` chunks, so its fan-in is larger
                self.cores[:, 4 + ratio :] /= math.sqrt(ratio)
        else:
            self.core = uniform(math.sqrt(6 / (2 * rank * rank)), rank, rank, rank)
            columns = blocks * self.slots
            self.mix = uniform(math.sqrt(6 / (rank + columns)), rank, columns)

    def slices(self, block: int, first: int, count: int) -> Tensor:
        """Cores S of slots first..first+count-1 of a block, (count, rank, rank), each used as V S U x."""
        if self.form == "tt":
            return self.cores[block, first : first + count]
        start = block * self.slots + first
        made = torch.einsum("abk,kj->abj", self.core, self.mix[:, start : start + count])
        # The published code multiplies rows from the left, (U x) S, and transposes what it makes for fc2.
        if first < 4:
            return made.permute(2, 1, 0)
        # It views the MLP's (r, r, ratio) as (r, ratio r), row-major: column f is [:, f // ratio, f % ratio], not a
        # column of slice f // r, and the chunks of the MLP are cut from those columns.
        chunks = made.reshape(len(self.core), count, -1)
        return chunks.transpose(0, 1) if first == 4 + self.ratio else chunks.permute(1, 2, 0)


class FacTLinear(Adapted):
    """y = W0 x + b0 + s V S U x on chunks of width d: several chunks of y (qkv, fc1) or of x (fc2)."""

    def __init__(self, base: nn.Linear, factors: Factors, block: int, first: int, scale: float, dropout: float) -> None:
        super().__init__(base)
        width = factors.u.shape[1]
        self.inputs, self.outputs = self.in_features // width, self.out_features // width
        self._shared = (factors,)  # a tuple: the factors belong to the model, not to this layer
        self.block, self.first, self.scale, self.dropout = block, first, scale, dropout

    def _cores(self) -> Tensor:
        return self._shared[0].slices(self.block, self.first, max(self.inputs, self.outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2)."""
        factors = self._shared[0]
        h = F.linear(x.reshape(*x.shape[:-1], self.inputs, -1), factors.u)
        if self.inputs == 1:
            h = torch.einsum("...ir,nsr->...ns", h, self._cores())
        else:
            h = torch.einsum("...nr,nsr->...s", h, self._cores()).unsqueeze(-2)
        update = F.linear(F.dropout(h, self.dropout, self.training), factors.v).flatten(-2)
        return F.linear(x, self.weight, self.bias) + self.scale * update

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """W0 + s V S U chunk by chunk, b0."""
        factors = self._shared[0]
        update = torch.cat(list(factors.v @ self._cores() @ factors.u), 0 if self.inputs == 1 else 1)
        return self.weight + self.scale * update, self.bias


class FacT(AdaptedLinears[FacTLinear]):
    """What both forms share; see the module.

    Args:
        rank: of U, V and the cores.
        scale: s.
        dropout: on the rank-sized vector, in training.

    Raises:
        ValueError: for a rank below 1.
        NotDefined: on a model without ViT or Swin blocks, or with an MLP ratio that is no integer.
    """

    form: ClassVar[str]
    ours_on_swin = True

    def __init__(self, model: nn.Module, rank: int = 16, scale: float = 1.0, dropout: float = 0.1) -> None:
        super().__init__(model)
        if rank < 1:
            raise ValueError(f"method={self.name}: rank={rank} must be at least 1")
        stages: dict[int, list[Block]] = defaultdict(list)
        for block in find_blocks(model, self.name):
            stages[block.width].append(block)
        self.factors = nn.ModuleList()
        for width, blocks in stages.items():
            hidden = {b.linear("mlp.fc1")[1].out_features for b in blocks}
            if len(hidden) > 1 or max(hidden) % width:
                raise NotDefined(f"method={self.name} cuts the MLP into chunks of the width {width}, not {hidden}")
            ratio = max(hidden) // width
            like = blocks[0].linear("attn.qkv")[1].weight
            factors = Factors(self.form, rank, width, len(blocks), ratio, like)
            self.factors.append(factors)
            for i, block in enumerate(blocks):
                for part, first in zip(LINEARS, (0, 3, 4, 4 + ratio), strict=True):
                    name, base = block.linear(part)
                    self.adapt(name, FacTLinear(base, factors, i, first, scale, dropout))
        model.add_module("fact", self.factors)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The shared factors, and the head."""
        return {f"fact.{n}": p for n, p in self.factors.named_parameters()} | self.head_parameters()

    def merge(self) -> nn.Module:
        """Every update inside its weight, without the factors."""
        plain = plain_copy(self.model, {n: layer.merge() for n, layer in self.layers.items()})
        del plain.fact
        return plain


class FacTTT(FacT):
    """FacT as a tensor train: independent cores, 1536 r + 144 r^2 parameters on ViT-B."""

    name = "fact_tt"
    label = "FacT-TT"
    known_params = {"vit_b16": 61_440, "swin_b": 135_168}
    form = "tt"


class FacTTK(FacT):
    """FacT as a Tucker decomposition: cores mixed from one (r, r, r) tensor, 1680 r + r^3 parameters on ViT-B."""

    name = "fact_tk"
    label = "FacT-TK"
    paper_rows = {"table1": ("fact_tk",), "table5": ("fact_tk",)}
    known_params = {"vit_b16": 86_528, "swin_b": 263_168}
    form = "tk"

    def __init__(self, model: nn.Module, rank: int = 32, scale: float = 1.0, dropout: float = 0.1) -> None:
        super().__init__(model, rank, scale, dropout)
