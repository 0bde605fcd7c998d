"""Merging into plain weights: biases a bias-free layer gains, and one plain model that serves all subnets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from glora.space import Subnet
from glora.supernet import Supernet


def feeding_norm(model: nn.Module, name: str) -> nn.LayerNorm | None:
    """The LayerNorm whose output is the input of the bias-free layer `name` and of nothing else, if known.

    timm's Swin patch merging normalises and then reduces (`norm`, `reduction`); no other pattern is assumed.
    """
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    norm = getattr(parent, "norm", None)
    known = leaf == "reduction" and type(parent).__name__ == "PatchMerging"
    return norm if known and isinstance(norm, nn.LayerNorm) and norm.elementwise_affine else None


def folded_beta(weight: Tensor, bias: Tensor) -> Tensor:
    """The shift s of shape (d1,) with W s = b: W^T (W W^T)^-1 b in float64; W (d2, d1) of full row rank.

    Raises:
        ValueError: if W has no full row rank, so that no such shift exists in general.
    """
    w, b = weight.double(), bias.double()
    try:
        shift: Tensor = w.T @ torch.linalg.solve(w @ w.T, b)
    except RuntimeError as error:
        raise ValueError("the merged weight has no full row rank: its bias cannot go into the LayerNorm") from error
    return shift


def fold_gained_biases(model: nn.Module, names: list[str]) -> None:
    """Move the biases that the layers `names` gained into the LayerNorm before them, in place (section E)."""
    for name in names:
        layer, norm = model.get_submodule(name), feeding_norm(model, name)
        assert isinstance(layer, nn.Linear)
        if norm is None or layer.bias is None:
            continue
        shift = folded_beta(layer.weight.detach(), layer.bias.detach())
        with torch.no_grad():
            norm.bias.copy_((norm.bias.double() + shift).to(norm.bias.dtype))
        layer.register_parameter("bias", None)


class MergedEvaluator:
    """One plain model into which any subnet's merged weights can be written in place.

    Candidates of a search then cost no adapter work and no allocation of a model each.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        self.model = supernet.skeleton().eval()
        self._plain: dict[str, nn.Linear] = {}
        self._norms: dict[str, tuple[nn.LayerNorm, Tensor]] = {}
        for name, layer in supernet.layers.items():
            plain = self.model.get_submodule(name)
            assert isinstance(plain, nn.Linear)
            if layer.bias is None:
                norm = feeding_norm(self.model, name)
                if norm is not None:
                    self._norms[name] = (norm, norm.bias.detach().clone())
                else:
                    plain.bias = nn.Parameter(torch.zeros_like(plain.weight[:, 0]), requires_grad=False)
            self._plain[name] = plain

    @torch.no_grad()
    def write(self, subnet: Subnet) -> nn.Module:
        """Write the merged weights of `subnet` and return the plain model, in eval mode."""
        for (name, layer), config in zip(self.supernet.layers.items(), subnet.layers, strict=True):
            plain = self._plain[name]
            weight, bias = layer.merged_weight(config), layer.merged_bias(config)
            plain.weight.copy_(weight)
            if name in self._norms:
                norm, start = self._norms[name]
                norm.bias.copy_(start if bias is None else start.double() + folded_beta(weight, bias))
            elif plain.bias is not None:
                plain.bias.zero_() if bias is None else plain.bias.copy_(bias)
        return self.model
