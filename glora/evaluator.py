"""One plain model that serves all subnets of a search."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glora.fold import feeding_norm, folded_beta
from glora.gates import Choice
from glora.soup import Soup
from glora.space import Subnet
from glora.supernet import Supernet


class MergedEvaluator:
    """One plain model into which any subnet's merged weights can be written in place.

    Candidates of a search then cost no adapter work, and no allocation of weights each.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.model = supernet.skeleton().eval()
        self._plain: dict[str, nn.Linear | nn.Conv2d] = {}
        self._norms: dict[str, tuple[nn.LayerNorm, Tensor]] = {}
        for name, layer in supernet.layers.items():
            plain = self.model.get_submodule(name)
            assert isinstance(plain, (nn.Linear, nn.Conv2d))
            if layer.bias is None:
                norm = feeding_norm(self.model, name)
                if norm is not None:
                    self._norms[name] = (norm, norm.bias.detach().clone())
                else:
                    plain.bias = nn.Parameter(plain.weight.new_zeros(len(plain.weight)), requires_grad=False)
            self._plain[name] = plain

    @torch.no_grad()
    def write(self, subnet: Subnet | Soup) -> nn.Module:
        """Write the merged weights of `subnet` and return the plain model, in eval mode."""
        self.supernet.check(subnet)
        choices: tuple[Choice, ...] = subnet.layers
        for (name, layer), config in zip(self.supernet.layers.items(), choices, strict=True):
            plain = self._plain[name]
            weight, bias = plain.weight.view_as(layer.weight), layer.merged_bias(config)
            layer.write_weight(config, weight)
            if name in self._norms:
                norm, start = self._norms[name]
                norm.bias.copy_(start if bias is None else start.double() + folded_beta(weight, bias))
            elif plain.bias is not None:
                plain.bias.zero_() if bias is None else plain.bias.copy_(bias)
        return self.model
