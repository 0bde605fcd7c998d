"""The model of a run: backbone, head and method on the device, fresh or with the weights that a training left."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import torch
from torch import nn

from glora.backbones import build_backbone
from glora.class_token import compute_class_token_alone
from glora.methods import Method, Searched
from runner.config.errors import ConfigError
from runner.config.protocol import WEIGHTS
from runner.config.run import Run
from runner.rundir.files import read_weights


def build(run: Run) -> Method:
    """Backbone, head and method, on the device."""
    model = build_backbone(run.backbone, run.task.num_classes, run.seed)
    _check_image_size(run, model)
    torch.manual_seed(run.seed)
    kind = run.method.kind
    try:
        method = kind(model, **kind.for_task(run.method.options, run.task.id))
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if run.compute.cut_last_block:
        compute_class_token_alone(model)
    model.to(run.compute.device)
    return method


@torch.no_grad()
def _check_image_size(run: Run, model: nn.Module) -> None:
    """Raise ConfigError where the model does not take images of the size that the data has."""
    size, training = run.data.image_size, model.training
    try:
        model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        known = getattr(getattr(model, "patch_embed", None), "img_size", None)
        hint = f"write backbone.image_size={known[0]}" if known else "write another backbone.image_size"
        cause = str(error).splitlines()[0]
        problem = f"backbone.image_size={size} does not fit {run.backbone.timm_name} ({cause})"
        raise ConfigError(f"{problem}; {hint}") from error
    model.train(training)


def load_trained(run: Run, directory: Path, file: str = WEIGHTS) -> Method:
    """The method with the weights that a training left in `directory`.

    Raises:
        ConfigError: if there are none, or the file is damaged.
    """
    path = directory / file
    if not path.exists():
        raise ConfigError(f"{directory} holds no finished training; run train.py with the same overrides first")
    weights = read_weights(path)  # what is damaged is said before a model is built
    method = build(run)
    method.load_state_dict(weights)
    method.model.eval()
    return method


def searched(method: Method) -> Searched[Hashable]:
    """The method as a supernet. Raises ConfigError for one without subnets."""
    if not isinstance(method, Searched):
        raise ConfigError(f"method={method.name} has no subnets")
    return method
