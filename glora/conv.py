"""Equation 10 for a 2-D convolution: the kernel, flattened to (c_out, c_in/g * kh * kw), takes the place of W0.

C is then one number per entry of an unfolded patch, the same for all groups, and is added at padded positions too:
conv(x + c per patch) = conv(x) + W0 c.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.gates import Choice
from glora.linear import GLoRALinear


class GLoRAConv2d(GLoRALinear):
    """A frozen `nn.Conv2d` with the support tensors of the linear layer that its flattened kernel is.

    `weight` is that flattened kernel, (c_out, c_in/g * kh * kw), frozen; `in_features` is its width.
    """

    def __init__(self, base: nn.Conv2d, max_rank: int) -> None:
        c_out = base.weight.shape[0]
        flat = nn.Linear(base.weight[0].numel(), c_out, bias=base.bias is not None, device="meta")
        flat.weight = nn.Parameter(base.weight.detach().reshape(c_out, -1), requires_grad=False)
        if base.bias is not None:
            flat.bias = nn.Parameter(base.bias.detach(), requires_grad=False)
        super().__init__(flat, max_rank)
        self._kernel = base.weight.shape[1:]
        self._shape: dict[str, Any] = {
            "in_channels": base.in_channels,
            "out_channels": base.out_channels,
            "kernel_size": base.kernel_size,
            "stride": base.stride,
            "padding": base.padding,
            "dilation": base.dilation,
            "groups": base.groups,
            "padding_mode": base.padding_mode,
        }
        self._pads = base._reversed_padding_repeated_twice

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) to (B, c_out, h', w') under `self.config`."""
        weight, bias = self.effective()
        weight, s = weight.reshape(-1, *self._kernel).to(x.dtype), self._shape
        padding = s["padding"]
        if s["padding_mode"] != "zeros":
            x, padding = F.pad(x, self._pads, mode=s["padding_mode"]), 0
        return F.conv2d(
            x, weight, None if bias is None else bias.to(x.dtype), s["stride"], padding, s["dilation"], s["groups"]
        )

    @torch.no_grad()
    def merge(self, config: Choice | None = None) -> nn.Conv2d:
        """A new plain `nn.Conv2d` that computes the same function; it has a bias only if equation 10 gives one."""
        config = self.config if config is None else config
        weight, bias = self.merged_weight(config), self.merged_bias(config)
        kwargs: dict[str, Any] = {"device": self.weight.device, "dtype": self.weight.dtype}
        plain = nn.Conv2d(bias=bias is not None, **self._shape, **kwargs)
        plain.weight.copy_(weight.view_as(plain.weight))
        if bias is not None:
            assert plain.bias is not None
            plain.bias.copy_(bias)
        return plain
