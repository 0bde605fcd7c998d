"""Backbones: a timm model with pinned weights and a freshly initialised classifier."""

from __future__ import annotations

import difflib
import hashlib
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np
import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from safetensors.torch import load_file
from torch import Tensor, nn

from glora.state import find_classifier, parameters_of

WEIGHTS_FILE = "model.safetensors"

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
    drop_path_rate: float = 0.1


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_weights(backbone: Backbone) -> Path | None:
    """The local weights file: the given one, the hub's cached one, or the hub's after a download; None for random.

    Raises:
        WeightsError: within about 10 s if there is none and the hub cannot be reached.
    """
    if not backbone.pretrained:
        return None
    if backbone.weights is not None:
        if not backbone.weights.is_file():
            raise WeightsError(f"backbone.weights={backbone.weights} does not exist; give a .safetensors or .npz file")
        return backbone.weights
    pinned = timm.models.get_pretrained_cfg(backbone.timm_name)
    repo = pinned.hf_hub_id if pinned is not None else None
    if not repo:
        raise WeightsError(f"timm has no weights for {backbone.timm_name}; type backbone.weights=/path/to/file or "
                           "backbone.pretrained=false")  # fmt: skip
    repo = repo if not repo.endswith("/") else repo + backbone.timm_name
    cached = try_to_load_from_cache(repo, WEIGHTS_FILE)
    if isinstance(cached, str):
        return Path(cached)
    advice = (
        f"the weights of {backbone.timm_name} are not in the local cache and could not be fetched. Download "
        f"{WEIGHTS_FILE} of {repo} from the Hugging Face hub on a machine with a network and type "
        f"backbone.weights=/path/to/{WEIGHTS_FILE} (backbone.pretrained=false starts from random weights)"
    )
    # The hub's client retries for most of a minute before it admits that there is no network; ask the socket first.
    hub = urlparse(constants.ENDPOINT)
    try:
        if constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        socket.create_connection((hub.hostname or "", hub.port or 443), timeout=5).close()
        return Path(hf_hub_download(repo, WEIGHTS_FILE))
    except Exception as error:
        raise WeightsError(f"{advice}; the cause: {type(error).__name__}: {error}") from error


def _misfits(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Tensors, the classifier's aside, that only one of the two has or that differ in shape: more blocks, say."""
    skip = parameters_of(model, find_classifier(model)).keys()
    own = model.state_dict()
    names = (own.keys() | state.keys()) - skip
    return sorted(n for n in names if n not in own or n not in state or own[n].shape != state[n].shape)


def _check_depth(model: Any, path: Path) -> None:
    """Raises ValueError for another number of blocks: timm passes over those that only the .npz file has."""
    with np.load(path) as file:
        blocks = {match[1] for match in map(re.compile(r".*encoderblock_(\d+)/").match, file.files) if match}
    depth = len(getattr(model, "blocks", ()))
    if len(blocks) != depth:
        raise ValueError(f"it holds {len(blocks)} blocks, the model has {depth}; leave backbone.kwargs.depth out")


def _create(backbone: Backbone, options: dict[str, Any], path: Path) -> nn.Module:
    if path.suffix not in (".npz", ".safetensors"):
        raise WeightsError(f"{path}: weights are read from .safetensors or .npz, never from a pickle; convert it first")
    model: Any = timm.create_model(backbone.timm_name, pretrained=False, **options)
    try:
        if path.suffix == ".npz":
            _check_depth(model, path)
            model.load_pretrained(str(path))
            return model  # type: ignore[no-any-return]
        state = load_file(path)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights of {backbone.timm_name}: {error}") from error
    misfits = _misfits(model, state)
    if not misfits:
        own = model.state_dict()
        model.load_state_dict({k: v for k, v in state.items() if own[k].shape == v.shape}, strict=False)
        return model  # type: ignore[no-any-return]
    try:  # files of older layouts go through timm's own conversion
        overlay = {"file": str(path)}
        converted: nn.Module = timm.create_model(
            backbone.timm_name, pretrained=True, pretrained_cfg_overlay=overlay, **options
        )
        return converted
    except Exception as error:
        raise WeightsError(
            f"{path} does not fit {backbone.timm_name}: {len(misfits)} tensors missing, unknown or of another shape, "
            f"first {misfits[:3]}"
        ) from error


def build_backbone(backbone: Backbone, num_classes: int, seed: int = 0) -> nn.Module:
    """The model with its weights and a new head (torch's default Linear init, as `reset_classifier` gives).

    Raises:
        WeightsError: within seconds if the weights are nowhere to be found, with the override that points to a file;
            or if timm does not know the architecture.
    """
    options = {**backbone.kwargs, "drop_path_rate": backbone.drop_path_rate}
    torch.manual_seed(seed)
    if not timm.is_model(backbone.timm_name.partition(".")[0]):
        near = difflib.get_close_matches(backbone.timm_name.partition(".")[0], timm.list_models(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise WeightsError(f"timm knows no model {backbone.timm_name!r}{hint}")
    path = find_weights(backbone)
    try:
        model: Any = (
            timm.create_model(backbone.timm_name, pretrained=False, **options)
            if path is None
            else _create(backbone, options, path)
        )
    except (TypeError, RuntimeError) as error:
        raise WeightsError(f"timm cannot build {backbone.timm_name} with {options}: {error}") from error
    torch.manual_seed(seed)
    model.reset_classifier(num_classes)
    head = find_classifier(model)
    for module in () if head is None else head.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    return model  # type: ignore[no-any-return]
