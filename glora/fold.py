"""Where a bias-free layer's new bias goes: into the LayerNorm that feeds it, so that the architecture stays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def feeding_norm(model: nn.Module, name: str) -> nn.LayerNorm | None:
    """The LayerNorm whose output is the input of the bias-free layer `name` and of nothing else, if known.

    timm's Swin patch merging normalises and then reduces (`norm`, `reduction`); no other pattern is assumed.
    """
    parent_name, _, leaf = name.rpartition(".")
    parent = model.get_submodule(parent_name)
    norm = getattr(parent, "norm", None)
    if leaf != "reduction" or type(parent).__name__ != "PatchMerging" or not isinstance(norm, nn.LayerNorm):
        return None
    layer: Any = parent.reduction
    before = norm.normalized_shape == (layer.in_features,)  # SwinV2 reduces and then normalises
    return norm if before and norm.elementwise_affine else None


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
        if norm is None or layer.bias is None:
            continue
        assert isinstance(layer, nn.Linear)
        shift = folded_beta(layer.weight.detach(), layer.bias.detach())
        with torch.no_grad():
            norm.bias.copy_((norm.bias.double() + shift).to(norm.bias.dtype))
        layer.register_parameter("bias", None)
