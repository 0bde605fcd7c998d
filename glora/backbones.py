"""Backbones: a timm model with pinned weights and a freshly initialised classifier."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from torch import nn

from glora.supernet import find_classifier

NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


class WeightsError(Exception):
    """Pre-trained weights are missing or do not fit; the message says what to type next."""


@dataclass(frozen=True)
class Backbone:
    """A timm architecture with its weights.

    `weights` is a local .safetensors (or, for ViT, the original .npz) file; without it and with `pretrained`, timm
    looks in its cache and asks the hub.
    """

    name: str
    timm_name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    weights: Path | None = None
    sha256: str | None = None
    drop_path_rate: float = 0.1


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _load(model: nn.Module, path: Path) -> None:
    if path.suffix == ".npz":
        model.load_pretrained(str(path))  # type: ignore[operator]
        return
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path}: weights are read from .safetensors or .npz, never from a pickle; convert it first")
    try:
        state = load_file(path)
    except Exception as error:
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    own = model.state_dict()
    fits = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    head = {n for n, p in model.named_parameters() if any(p is q for q in model.get_classifier().parameters())}  # type: ignore[operator]
    missing = sorted(own.keys() - fits.keys() - head)
    if missing:
        raise WeightsError(
            f"{path} does not fit this backbone: {len(missing)} tensors missing or of another shape, "
            f"first {missing[:3]}"
        )
    model.load_state_dict(fits, strict=False)


def build_backbone(backbone: Backbone, num_classes: int, seed: int = 0) -> nn.Module:
    """The model with its weights and a new head (torch's default Linear init, as `reset_classifier` gives).

    Raises:
        WeightsError: within seconds if the weights are nowhere to be found, with the override that points to a file.
    """
    options = {**backbone.kwargs, "drop_path_rate": backbone.drop_path_rate}
    torch.manual_seed(seed)
    if backbone.weights is not None and backbone.pretrained:
        if not backbone.weights.is_file():
            raise WeightsError(f"backbone.weights={backbone.weights} does not exist")
        if backbone.sha256 is not None and file_sha256(backbone.weights) != backbone.sha256:
            raise WeightsError(f"{backbone.weights} has not the SHA-256 {backbone.sha256} that its config pins")
        model = timm.create_model(backbone.timm_name, pretrained=False, **options)
        _load(model, backbone.weights)
    else:
        try:
            model = timm.create_model(backbone.timm_name, pretrained=backbone.pretrained, **options)
        except Exception as error:
            raise WeightsError(
                f"the weights of {backbone.timm_name} are not in the local cache and could not be fetched "
                f"({type(error).__name__}). Get model.safetensors of huggingface.co/timm/{backbone.timm_name} on a "
                "machine with a network and type backbone.weights=/path/to/model.safetensors "
                "(backbone.pretrained=false starts from random weights)"
            ) from error
    torch.manual_seed(seed)
    model.reset_classifier(num_classes)  # type: ignore[operator]
    head = find_classifier(model)
    assert head is not None
    for module in head.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return model
