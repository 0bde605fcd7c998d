"""Adapter as in NOAH (arXiv 2206.04673): one residual bottleneck per block, after the MLP's drop path.

x <- x + Ad(DropPath(MLP(LN2 x))),   Ad(z) = z + W_up Dropout(QuickGELU(W_down z + b_down)) + b_up
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.methods.added import AddedModules, bottleneck


class Bottleneck(nn.Module):
    """Ad above, (..., d) to (..., d). Matrices start at trunc-normal 0.02 and biases at 0: not the identity.

    `active`, by default all, is how many units take part (NOAH's supernet sets it); with none, Ad is the identity.
    """

    def __init__(self, like: Tensor, hidden: int, dropout: float) -> None:
        super().__init__()
        self.down, self.up = bottleneck(like, hidden)
        self.dropout = nn.Dropout(dropout)
        self.active = hidden
        for layer in (self.down, self.up):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        k = self.active
        if k == 0:
            return z
        t = F.linear(z, self.down.weight[:k], self.down.bias[:k])
        t = self.dropout(t * torch.sigmoid(1.702 * t))
        return z + F.linear(t, self.up.weight[:, :k], self.up.bias)


def put_after_mlp(block: Any, adapter: nn.Module) -> None:
    """Let `adapter` act on the MLP branch of a timm block, behind its drop path."""
    block.drop_path2 = nn.Sequential(OrderedDict(base=block.drop_path2, adapter=adapter))


class Adapter(AddedModules):
    """One adapter of width `hidden` per block; on a Swin with each stage's width (ours: the source has ViTs only)."""

    name = "adapter"
    label = "Adapter"
    paper_rows = {"table1": ("adapter",)}
    known_params = {"vit_b16": 156_768, "swin_b": 204_736}
    reason = "its QuickGELU lies between two projections after the MLP, and no weight of the block holds one"

    def __init__(self, model: nn.Module, hidden: int = 8, dropout: float = 0.1) -> None:
        super().__init__(model)
        for blocks in self.lists:
            for child in blocks:
                block: Any = child
                adapter = Bottleneck(block.norm2.weight, hidden, dropout)
                put_after_mlp(block, adapter)
                self.parts.append(adapter)
