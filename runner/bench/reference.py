"""The baseline of the benchmarks: equation 10 computed the plain way, as the first published code does it.

Every support tensor is written out as a full matrix or vector ("none" as zeros), the weight is formed from them in
every forward pass, and every gradient goes through autograd.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora import Supernet
from glora.attach import replace_module
from glora.linear import GLoRALinear
from glora.options import LayerConfig, Option


class ReferenceLinear(nn.Module):
    """A `GLoRALinear` with its tensors and current configuration, evaluated the plain way."""

    def __init__(self, layer: GLoRALinear) -> None:
        super().__init__()
        self.layer = layer

    def _matrix(self, down: Tensor, up: Tensor, option: Option) -> Tensor:
        shape = self.layer.out_features, self.layer.in_features
        if option.kind == "lora":
            return down[:, : option.rank] @ up[: option.rank]
        if option.kind == "none":
            return torch.zeros(shape, device=down.device, dtype=down.dtype)
        return (down[:, :1] if option.kind == "vector" else down[:1, :1]).expand(shape)

    def _vector(self, tensor: Tensor, option: Option) -> Tensor:
        if option.kind == "none":
            return torch.zeros_like(tensor)
        return tensor if option.kind == "vector" else tensor[:1].expand_as(tensor)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2)."""
        own, config = self.layer, self.layer.config
        if not isinstance(config, LayerConfig):
            raise TypeError("the plain way is for subnets; a soup's gates are no options")
        a, b = self._matrix(own.Ad, own.Au, config.A), self._matrix(own.Bd, own.Bu, config.B)
        if config.C.kind == "lora":
            c = (own.Cd[:, : config.C.rank] @ own.Cu[: config.C.rank])[:, 0]
        else:
            c = own.Cd[:, 0] if config.C.kind == "vector" else torch.zeros_like(own.Cd[:, 0])
        weight = own.weight + own.weight * a + b
        bias = self._vector(own.E, config.E) + own.weight @ c
        if own.bias is not None and own.D is not None:
            bias = bias + self._vector(own.D, config.D) * own.bias + own.bias
        return F.linear(x, weight.to(x.dtype), bias.to(x.dtype))


def to_reference(supernet: Supernet) -> None:
    """Evaluate every adapted layer of the supernet's model the plain way from now on, in place."""
    for name, layer in supernet.layers.items():
        replace_module(supernet.model, name, ReferenceLinear(layer))
