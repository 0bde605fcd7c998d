"""Backbones: a timm model with pinned weights and a freshly initialised classifier."""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from safetensors.torch import load_file
from torch import nn

from glora.construction import construct, kwargs_problems
from glora.conversion import load_npz, one_line, with_state
from glora.state import find_classifier, parameters_of
from glora.train import Channels

WEIGHTS_FILE = "model.safetensors"

NORMALIZATIONS: dict[str, tuple[Channels, Channels]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "inception": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}
"""Mean and standard deviation per channel, of images from 0 to 1, by name."""


class WeightsError(Exception):
    """Pre-trained weights are missing or do not fit; the message says what to type next."""


@dataclass(frozen=True)
class Backbone:
    """A timm architecture with its weights.

    `weights` is a local .safetensors (or, for ViT, the original .npz) file; without it and with `pretrained`, timm
    looks in its cache and asks the hub. `family` names the published backbone that this one is, if it is one.
    `drop_path_rate` must be 0 for an architecture that takes none.
    """

    name: str
    timm_name: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    weights: Path | None = None
    drop_path_rate: float = 0.1
    family: str | None = None


def file_sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def known_model(timm_name: str) -> Any:
    """timm's own settings of the model (`PretrainedCfg`). Raises WeightsError if it knows no such model or tag."""
    architecture, _, tag = timm_name.partition(".")
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), 3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise WeightsError(f"timm knows no model {timm_name!r}{hint}")
    try:
        return timm.models.get_pretrained_cfg(timm_name)
    except RuntimeError as error:
        tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
        known = f"it knows {', '.join(tags)}" if tags else "it has none for it"
        raise WeightsError(f"timm knows no weights {tag!r} of {architecture}; {known}") from error


@functools.cache
def takes_drop_path(timm_name: str) -> bool:
    """Whether the architecture has stochastic depth, as far as timm can tell (`known_model` says what it cannot)."""
    try:
        with torch.device("meta"):  # its class answers when it is called; nothing of the model's size is made
            timm.create_model(timm_name, drop_path_rate=0.1)
    except TypeError as error:
        return "drop_path_rate" not in str(error)
    except Exception:  # noqa: BLE001 (some cannot be made on "meta"; they got past their arguments)
        return True
    return True


def no_drop_path(timm_name: str, drop_path_rate: float) -> str:
    """What to say of a rate above 0 where `takes_drop_path` is false."""
    return f"backbone.drop_path_rate={drop_path_rate}: {timm_name} has no stochastic depth; leave it out or write 0"


def channel_statistics(normalization: object) -> tuple[Channels, Channels]:
    """Mean and standard deviation per channel for images from 0 to 1, of a name or of {"mean": [...], "std": [...]}.

    Raises:
        ValueError: if it is neither; the message says what is.
    """
    if isinstance(normalization, str) and normalization in NORMALIZATIONS:
        return NORMALIZATIONS[normalization]
    found: list[Channels] = []
    if isinstance(normalization, Mapping) and normalization.keys() == {"mean", "std"}:
        for key, low in (("mean", -1e6), ("std", 1e-6)):  # beyond, float32 has no values left
            match normalization[key]:
                case [(int() | float()) as r, (int() | float()) as g, (int() | float()) as b]:
                    if all(low < x < 1e6 for x in (r, g, b)):
                        found.append((float(r), float(g), float(b)))
    if len(found) < 2:
        raise ValueError(
            f"{normalization} is not one of {', '.join(NORMALIZATIONS)}, timm (the model's own), nor "
            "{mean: [r, g, b], std: [r, g, b]} of images from 0 to 1, std above 0"
        )
    return found[0], found[1]


def settled_normalization(normalization: object, timm_name: str) -> str | dict[str, list[float]]:
    """What a record keeps of it: a name where the values have one, else mean and std; "timm" gives the model's own.

    Raises:
        ValueError: as `channel_statistics`.
        WeightsError: for "timm", if timm does not know the model.
    """
    if normalization == "timm":
        own = known_model(timm_name) or timm.models.PretrainedCfg()  # the usual ones, if it has none of its own
        normalization = {"mean": list(own.mean), "std": list(own.std)}
    mean, std = channel_statistics(normalization)
    names = [name for name, values in NORMALIZATIONS.items() if values == (mean, std)]
    return names[0] if names else {"mean": list(mean), "std": list(std)}


def hub_repository(backbone: Backbone) -> str | None:
    """The repository of the Hugging Face hub that timm takes the weights from; None where it has none."""
    pinned = known_model(backbone.timm_name)
    repo = pinned.hf_hub_id if pinned is not None else None
    if not repo:
        return None
    return f"{repo}{backbone.timm_name}" if repo.endswith("/") else str(repo)


def find_weights(backbone: Backbone) -> Path | None:
    """The local weights file: the given one, the hub's cached one, or the hub's after a download; None for random.

    Raises:
        WeightsError: if there is none and the hub does not answer within `HF_HUB_ETAG_TIMEOUT` (10 s by default).
    """
    if not backbone.pretrained:
        return None
    if backbone.weights is not None:
        if not backbone.weights.is_file():
            raise WeightsError(f"backbone.weights={backbone.weights} does not exist; give a .safetensors or .npz file")
        return backbone.weights
    repo = hub_repository(backbone)
    if repo is None:
        raise WeightsError(f"timm has no weights for {backbone.timm_name}; type backbone.weights=/path/to/file or "
                           "backbone.pretrained=false")  # fmt: skip
    cached = try_to_load_from_cache(repo, WEIGHTS_FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        # A download without a network is retried for most of a minute; this question, of the same client and so
        # through the same proxies, is asked once.
        get_hf_file_metadata(hf_hub_url(repo, WEIGHTS_FILE), timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return Path(hf_hub_download(repo, WEIGHTS_FILE))
    except Exception as error:
        raise WeightsError(
            f"the weights of {backbone.timm_name} are not in the local cache and could not be fetched. Download "
            f"{WEIGHTS_FILE} of {repo} from the Hugging Face hub on a machine with a network and type "
            f"backbone.weights=/path/to/{WEIGHTS_FILE} (backbone.pretrained=false starts from random weights); "
            f"the cause: {type(error).__name__}: {one_line(error)}"
        ) from error


def _create(backbone: Backbone, options: dict[str, Any], path: Path) -> nn.Module:
    if path.suffix not in (".npz", ".safetensors"):
        raise WeightsError(f"{path}: weights are read from .safetensors or .npz, never from a pickle; convert it first")
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is a folder, a pipe or a device, not a file of weights")  # some would be waited for
    model = construct(backbone.timm_name, options)
    try:
        if path.suffix == ".npz":
            load_npz(model, path)
            return model
        state = load_file(path)
    except Exception as error:
        raise WeightsError(f"{path} cannot be read as weights of {backbone.timm_name}: {one_line(error)}") from error
    try:
        return with_state(model, state, functools.partial(timm.create_model, backbone.timm_name, **options))
    except ValueError as error:
        raise WeightsError(f"{path} does not fit {backbone.timm_name}: {error}") from error


def build_backbone(backbone: Backbone, num_classes: int, seed: int = 0) -> nn.Module:
    """The model with its weights and a new head (torch's default Linear init, as `reset_classifier` gives).

    Raises:
        WeightsError: within seconds if the weights are nowhere to be found, with the override that points to a file;
            if timm does not know the architecture or cannot build it; if `kwargs` holds what is not for it; or if it
            takes no `drop_path_rate` above 0, or has a part that depends on the classes and that `get_classifier` does
            not name.
    """
    known_model(backbone.timm_name)
    problems = list(kwargs_problems(backbone.kwargs))
    if problems:
        raise WeightsError("\n".join(problems))
    options = dict(backbone.kwargs)
    if takes_drop_path(backbone.timm_name):
        options["drop_path_rate"] = backbone.drop_path_rate
    elif backbone.drop_path_rate:
        raise WeightsError(no_drop_path(backbone.timm_name, backbone.drop_path_rate))
    torch.manual_seed(seed)
    path = find_weights(backbone)
    try:
        model: Any = construct(backbone.timm_name, options) if path is None else _create(backbone, options, path)
    except ValueError as error:
        raise WeightsError(str(error)) from error
    kept = list(model.parameters())
    torch.manual_seed(seed)
    model.reset_classifier(num_classes)
    head = find_classifier(model)
    for module in () if head is None else head.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    known = {id(p) for p in [*kept, *parameters_of(model, head).values()]}
    unnamed = [name for name, p in model.named_parameters() if id(p) not in known and p.ndim > 1]
    if unnamed:  # a norm, of one dimension, begins as the identity
        raise WeightsError(
            f"{unnamed[0]} of {backbone.timm_name} is new for these classes, but no part of what get_classifier() "
            "names: it would stay random; switch it off in backbone.kwargs or choose another model"
        )
    built: nn.Module = model
    return built
