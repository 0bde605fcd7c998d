"""The model of a run: backbone, head and method on the device, fresh or with the weights that a training left."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from glora.backbones import build_backbone
from glora.class_token import compute_class_token_alone
from glora.conversion import one_line
from glora.methods import Method, Searched
from runner.config.errors import ConfigError
from runner.config.protocol import WEIGHTS
from runner.config.run import Run
from runner.rundir.weights import read_weights


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
        logits = model.eval()(torch.zeros(1, 3, size, size))
        if logits.shape != (1, run.task.num_classes):
            raise ValueError(f"it gives {tuple(logits.shape)} in place of one row of {run.task.num_classes} logits")
    except Exception as error:  # noqa: BLE001 (a model of odd arguments stumbles in any way)
        known = getattr(getattr(model, "patch_embed", None), "img_size", None)
        hint = (
            f"write backbone.image_size={known[0]}"
            if known and known[0] != size
            else ("write another backbone.image_size" + ", or change backbone.kwargs" * bool(run.backbone.kwargs))
        )
        cause = f"{type(error).__name__}: {one_line(error)}"
        problem = f"backbone.image_size={size} does not fit {run.backbone.timm_name} ({cause})"
        raise ConfigError(f"{problem}; {hint}") from error
    model.train(training)


def trained_file(directory: Path, file: str = WEIGHTS) -> Path:
    """Where a training left its weights. Raises ConfigError if there are none."""
    path = directory / file
    if not path.exists():
        raise ConfigError(f"{directory} holds no finished training; run train.py with the same overrides first")
    return path


def load_trained(run: Run, directory: Path, file: str = WEIGHTS) -> Method:
    """The method with the weights that a training left in `directory`.

    Raises:
        ConfigError: if there are none, the file is damaged, or they do not fit.
    """
    path = trained_file(directory, file)
    weights = read_weights(path)  # what is damaged is said before a model is built
    return with_weights(build(run), weights, path)


def with_weights(method: Method, weights: Mapping[str, Tensor], path: Path) -> Method:
    """The method in eval mode with these weights, which came from `path`. Raises ConfigError if they do not fit."""
    try:
        method.load_state_dict(weights)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; or delete it and train with the same overrides again") from error
    method.model.eval()
    return method


def searched(method: Method) -> Searched[Hashable]:
    """The method as a supernet. Raises ConfigError for one without subnets."""
    if not isinstance(method, Searched):
        raise ConfigError(f"method={method.name} has no subnets")
    return method
