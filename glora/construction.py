"""timm's constructor: what may be handed to it, and whatever it raises as one sentence."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from torch import nn

from glora.conversion import one_line

WEIGHTS = "weights come from backbone.weights= and backbone.pretrained= alone, never from a pickle"
TASK = "the data set decides it"
DEVICE = "device= and precision= decide it"
FORM = "what is trained is the whole model, with its classifier"

NOT_KWARGS = {
    **dict.fromkeys(("checkpoint_path", "cache_dir", "model_name", "model_cfg", "kwargs_filter", "pruned"), WEIGHTS),
    **dict.fromkeys(("num_classes", "in_chans"), TASK),
    **dict.fromkeys(("device", "dtype"), DEVICE),
    **dict.fromkeys(("features_only", "feature_cfg", "feature_cls", "out_indices"), FORM),
    **dict.fromkeys(("scriptable", "exportable", "no_jit"), FORM),
    "drop_path_rate": "write backbone.drop_path_rate=",
}
"""Arguments of `timm.create_model`, beside all of pretrained*, that are no part of an architecture, and why."""

MOST_BLOCKS, MOST = 256, 16384
"""Of an architecture's depth, and of any other of its numbers: beyond, it would be built until the memory is full."""


def kwargs_problems(kwargs: Mapping[str, Any]) -> Iterator[str]:
    """What `backbone.kwargs` may not hold, a sentence each: what loads files or code, what others decide, slips."""
    for key, value in kwargs.items():
        why = WEIGHTS if key.startswith("pretrained") else NOT_KWARGS.get(key)
        most = MOST_BLOCKS if key.startswith("depth") else MOST
        if why is not None:
            yield f"backbone.kwargs.{key} is no part of an architecture: {why}; leave it out"
        elif any(not -most <= number <= most for number in _numbers(value)):  # NaN too
            yield f"backbone.kwargs.{key}={value} is no number up to {most}"


def _numbers(value: Any) -> Iterator[float]:
    """Every number in a value of a YAML."""
    if isinstance(value, (int, float)):
        yield value
    for part in value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ():
        yield from _numbers(part)


def construct(timm_name: str, options: Mapping[str, Any]) -> nn.Module:
    """The architecture with random weights.

    Raises:
        ValueError: for whatever timm raises, which checks few of its arguments, and for more than the memory holds.
    """
    given = ", ".join(f"{key}={value}" for key, value in options.items()) or "its own settings"
    size, memory = _bytes(timm_name, options), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise ValueError(f"the weights of {timm_name} with {given} take {size / 1e9:,.0f} GB, and this machine has "
                         f"{memory / 1e9:,.0f} GB of memory; lower a number of backbone.kwargs")  # fmt: skip
    try:
        model: nn.Module = timm.create_model(timm_name, pretrained=False, **options)
    except Exception as error:
        raise ValueError(f"timm cannot build {timm_name} with {given} ({type(error).__name__}: {one_line(error)}); "
                         "change backbone.kwargs, or choose another backbone.timm_name") from error  # fmt: skip
    return model


def _bytes(timm_name: str, options: Mapping[str, Any]) -> int:
    """Bytes of the weights, counted without making them; 0 where timm cannot do without."""
    with contextlib.suppress(Exception), torch.device("meta"):
        return sum(p.nbytes for p in timm.create_model(timm_name, pretrained=False, **options).parameters())
    return 0
