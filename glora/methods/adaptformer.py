"""AdaptFormer (arXiv 2205.13535): a bottleneck parallel to the MLP, outside its drop path.

    x' = x + DropPath(MLP(LN2 x)) + s (W_up Dropout(ReLU(W_down u + b_down)) + b_up)

x is the residual stream after attention; what u is, and whether there are biases, is the variant.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from glora.methods.added import AddedModules, bottleneck

# u and biases of each variant: our default; the official block with a norm of its own; PETL-ViT; the paper's eq. 3.
VARIANTS = {"default": ("x", True), "own_norm": ("own", True), "petl_vit": ("x", False), "paper": ("norm2", True)}


class ParallelMlp(nn.Module):
    """Everything the block adds to x after attention: the untouched MLP branch plus the scaled bottleneck."""

    def __init__(self, block: Any, hidden: int, scale: float, dropout: float, variant: str) -> None:
        super().__init__()
        self.input, bias = VARIANTS[variant]
        self.norm2, self.mlp, self.drop_path = block.norm2, block.mlp, block.drop_path2
        self.ls = getattr(block, "ls2", nn.Identity())
        self.scale = scale
        branch = nn.ModuleDict()
        if self.input == "own":
            branch["norm"] = copy.deepcopy(block.norm2)
            norm: Any = branch["norm"]
            norm.eps = 1e-5  # nn.LayerNorm's default, as in the official code, and not the ViT's
            nn.init.ones_(norm.weight)
            nn.init.zeros_(norm.bias)
            norm.requires_grad_(True)
        branch["down"], branch["up"] = down, up = bottleneck(block.norm2.weight, hidden, bias)
        self.branch, self.dropout = branch, nn.Dropout(dropout)
        nn.init.kaiming_uniform_(down.weight, a=math.sqrt(5))
        nn.init.zeros_(up.weight)
        for layer in (down, up):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d) to (..., d)."""
        normed = self.norm2(x)
        u = {"x": x, "norm2": normed}[self.input] if self.input != "own" else self.branch["norm"](x)
        added: Tensor = self.branch["up"](self.dropout(torch.relu(self.branch["down"](u))))
        mlp: Tensor = self.drop_path(self.ls(self.mlp(normed)))
        return mlp + self.scale * added


class AdaptFormer(AddedModules):
    """One parallel bottleneck per block; on a Swin with each stage's width (ours).

    Args:
        model: a timm ViT or Swin.
        hidden: the bottleneck's width.
        scale: s; {0.01, 0.1, 1, 10} is the grid to choose it from.
        dropout: after the ReLU.
        variant: "default" (u = x, biases), "own_norm" (i: a new trainable LayerNorm), "petl_vit" (ii: u = x, no
            biases), "paper" (iii: u = the block's frozen LN2 of x).
    """

    name = "adaptformer"
    label = "AdaptFormer"
    paper_rows = {"table1": ("adaptformer",)}
    known_params = {"vit_b16": 156_768, "swin_b": 204_736}
    reason = "its ReLU branch runs beside the MLP and bypasses the GELU between fc1 and fc2"

    def __init__(
        self, model: nn.Module, hidden: int = 8, scale: float = 1.0, dropout: float = 0.1, variant: str = "default"
    ) -> None:
        if variant not in VARIANTS:
            raise ValueError(f"variant is {variant!r}; allowed: {', '.join(VARIANTS)}")
        super().__init__(model)
        for blocks in self.lists:
            for child in blocks:
                block: Any = child
                parallel = ParallelMlp(block, hidden, scale, dropout, variant)
                block.norm2, block.mlp, block.drop_path2 = nn.Identity(), parallel, nn.Identity()
                if hasattr(block, "ls2"):
                    block.ls2 = nn.Identity()
                self.parts.append(parallel.branch)
