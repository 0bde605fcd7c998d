"""SSF (arXiv 2210.08823): a scale and a shift per channel after every linear, convolution and normalisation layer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from glora.attach import LINEARS, find_blocks, plain_copy, replace_module
from glora.methods.base import Method


class ScaleShift(nn.Module):
    """y = gamma * base(x) + beta over the channels of a frozen `nn.Linear`, `nn.LayerNorm` or `nn.Conv2d`."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        weight: Any = base.weight
        channels = weight.shape[0]
        self.base = base
        self.gamma = nn.Parameter(weight.detach().new_empty(channels).normal_(1.0, 0.02))
        self.beta = nn.Parameter(weight.detach().new_empty(channels).normal_(0.0, 0.02))

    def forward(self, x: Tensor) -> Tensor:
        """Whatever the base takes; channels are the second dimension of a convolution's output, else the last."""
        y: Tensor = self.base(x)
        if isinstance(self.base, nn.Conv2d):
            return y * self.gamma.view(-1, 1, 1) + self.beta.view(-1, 1, 1)
        return y * self.gamma + self.beta

    @torch.no_grad()
    def merge(self) -> nn.Module:
        """The base with gamma and beta folded into its weight and bias."""
        plain: Any = copy.deepcopy(self.base)
        plain.weight.copy_(plain.weight * self.gamma.view(-1, *[1] * (plain.weight.dim() - 1)))
        bias = 0 if plain.bias is None else plain.bias * self.gamma
        plain.bias = nn.Parameter(bias + self.beta, requires_grad=False)
        merged: nn.Module = plain
        return merged


class SSF(Method):
    """Scale and shift after the patch embedding, both norms and four linears of each block, and the final norm.

    On a Swin also after the patch embedding's norm and the norms of the patch mergings (not after their reductions).
    gamma starts as N(1, 0.02) and beta as N(0, 0.02), so not exactly at the pre-trained function.

    Raises:
        NotDefined: on a model without ViT or Swin blocks.
    """

    name = "ssf"
    label = "SSF"
    paper_rows = {"table1": ("ssf",)}
    known_params = {"vit_b16": 205_824, "swin_b": 274_432}

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        blocks = find_blocks(model, self.name)
        names = [f"{b.name}.{p}" for b in blocks for p in ("norm1", "norm2", *LINEARS)]
        modules = dict(model.named_modules())
        names += ["patch_embed.proj", "patch_embed.norm", "norm", "fc_norm"]
        names += [f"{n}.norm" for n, m in modules.items() if type(m).__name__ == "PatchMerging"]
        self.added: dict[str, ScaleShift] = {}
        for name in names:
            base = modules.get(name)
            if isinstance(base, (nn.Linear, nn.LayerNorm, nn.Conv2d)):
                self.added[name] = ScaleShift(base)
                replace_module(model, name, self.added[name])

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every gamma and beta, and the head."""
        own = {f"{n}.{k}": getattr(m, k) for n, m in self.added.items() for k in ("gamma", "beta")}
        return own | self.head_parameters()

    def merge(self) -> nn.Module:
        """Every scale and shift inside the layer before it."""
        return plain_copy(self.model, {n: m.merge() for n, m in self.added.items()})
