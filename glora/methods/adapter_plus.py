"""Adapter+ (CVPR 2024): a bottleneck with a learned channel scale after each block, on the residual stream.

x <- x + g * DropPath(W_up GELU(W_down x + b_down) + b_up)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import Tensor, nn

from glora.methods.added import AddedModules, bottleneck


class AdaptedBlock(nn.Module):
    """A block and the adapter after it. Matrices start at trunc-normal 0.01 cut at two deviations, biases 0, g 1."""

    def __init__(self, block: Any, hidden: int, drop_path: float) -> None:
        super().__init__()
        self.block = block
        down, up = bottleneck(block.norm2.weight, hidden)
        for layer in (down, up):
            nn.init.trunc_normal_(layer.weight, std=0.01, a=-0.02, b=0.02)
            nn.init.zeros_(layer.bias)
        self.adapter = nn.ModuleDict({"down": down, "up": up})
        self.adapter.register_parameter("scale", nn.Parameter(torch.ones_like(block.norm2.weight)))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, **masks: Any) -> Tensor:
        """Tokens in, tokens out, any layout with the channels last."""
        x = self.block(x, **masks)
        added = self.drop_path(self.adapter["up"](F.gelu(self.adapter["down"](x))))
        scaled: Tensor = self.adapter.scale * added
        return x + scaled


class AdapterPlus(AddedModules):
    """One adapter after every block; on a Swin with each stage's width (ours)."""

    name = "adapter_plus"
    label = "Adapter+"
    known_params = {"vit_b16": 165_984, "swin_b": 216_768}
    reason = "its GELU lies between two projections on the residual stream, where no weight of the backbone is"

    def __init__(self, model: nn.Module, hidden: int = 8, drop_path: float = 0.1) -> None:
        super().__init__(model)
        for blocks in self.lists:
            for i, block in enumerate(blocks):
                blocks[i] = adapted = AdaptedBlock(block, hidden, drop_path)
                self.parts.append(adapted.adapter)

    def no_decay(self) -> set[str]:
        """Biases and channel scales, the head's bias included, as in its recipe."""
        return {n for n, p in self.trainable().items() if p.ndim < 2}
