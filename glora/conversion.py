"""A file's tensors into a timm model: as they are, or converted by timm from another layout or resolution."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from glora.state import find_classifier, parameters_of

SHOWN = 3
"""Tensors that do not fit, in an error message."""


def one_line(error: Exception) -> str:
    """What an error says, its line breaks and what is beyond 300 letters left out."""
    return textwrap.shorten(str(error), 300, placeholder=" ...")


def load_npz(model: Any, path: Path) -> None:
    """Read a ViT's weights in the layout of the original release, position embeddings resampled where they must be.

    Raises:
        ValueError: for another number of blocks; timm passes over those that only the file has.
    """
    with np.load(path) as file:
        blocks = {match[1] for match in map(re.compile(r".*encoderblock_(\d+)/").match, file.files) if match}
    depth = len(getattr(model, "blocks", ()))
    if len(blocks) != depth:
        raise ValueError(f"it holds {len(blocks)} blocks, the model has {depth}; leave backbone.kwargs.depth out")
    model.load_pretrained(str(path))


def with_state(model: nn.Module, state: Mapping[str, Tensor], make: Callable[..., Any]) -> nn.Module:
    """A model with every tensor of a file, the classifier's aside: `model` itself, or one that timm converted them for.

    Args:
        model: what `make()` gave.
        state: the file's tensors. A classifier in it may have any size or be absent.
        make: `timm.create_model` with its other arguments.

    Raises:
        ValueError: with the tensors that do not fit and timm's complaint, in one line.
    """
    misfits, own = _misfits(model, state), model.state_dict()
    if not misfits:
        model.load_state_dict({k: v for k, v in state.items() if own[k].shape == v.shape}, strict=False)
        return model
    complaints = []
    for classes, tensors in _with_classifiers(model, state):
        overlay = {"state_dict": tensors, "num_classes": classes, "label_offset": 0, "custom_load": False}
        try:
            found = make(pretrained=True, num_classes=classes, pretrained_cfg_overlay=overlay)
        except Exception as error:  # noqa: BLE001 (a conversion may stumble over a foreign file in any way)
            complaints.append(f"{type(error).__name__}: {one_line(error)}")
            continue
        found.pretrained_cfg = found.default_cfg = model.pretrained_cfg  # else it would keep all of the file
        converted: nn.Module = found
        return converted
    raise ValueError(
        f"{len(misfits)} tensors missing, unknown or of another shape, first {'; '.join(misfits[:SHOWN])}; timm cannot "
        f"convert them either ({complaints[0]}); check backbone.timm_name and backbone.kwargs"
    )


def _misfits(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Tensors, the classifier's aside, that only one of the two has or that differ in shape: more blocks, say."""
    skip = parameters_of(model, find_classifier(model)).keys()
    own, out = model.state_dict(), []
    for name in sorted((own.keys() | state.keys()) - skip):
        if name not in state:
            out.append(f"{name} is missing")
        elif name not in own:
            out.append(f"{name} is unknown")
        elif own[name].shape != state[name].shape:
            out.append(f"{name} has shape {tuple(state[name].shape)}, not {tuple(own[name].shape)}")
    return out


def _with_classifiers(model: Any, state: Mapping[str, Tensor]) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Numbers of classes with the tensors that timm, which converts strictly, may accept for them.

    The classifier is replaced afterwards, so that its size in the file is of no interest. But conversions of older
    layouts go by the classifier's name, so that it can be neither left out of all files nor put into all.
    """
    fresh = {n: p.detach() for n, p in parameters_of(model, find_classifier(model)).items()}
    yield model.num_classes, {**state, **fresh}  # today's name, whatever the file has under it
    unknown = [n for n in state if n not in model.state_dict()]
    older = [
        n for n in unknown if re.search(r"(head|fc|classifier|proj|linear)(_\w+)?\.weight$", n) and n.count(".") < 4
    ]
    for classes in dict.fromkeys([model.num_classes, *(len(state[n]) for n in older)]):
        yield classes, dict(state)
    yield 0, dict(state)
