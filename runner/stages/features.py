"""The test images as a measured model sees them: what its classifier reads. For pictures; nothing is chosen by it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from glora.evaluation import Batches, predict
from glora.state import find_classifier
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.rundir.records import read_winner
from runner.stages.evaluate import final_method
from runner.stages.inputs import Preprocess, balanced_cut, test_split
from runner.stages.model import searched
from runner.stages.tune import chosen
from runner.stages.winner import load_tuned


class Features(NamedTuple):
    """Of N test images, on the CPU: `values` (N, width) float32, `labels` (N,) int64, and the accuracy on them."""

    values: Tensor
    labels: Tensor
    accuracy: float


def measured_model(run: Run) -> nn.Module:
    """The model that `evaluate` measures on test: of a search the winner, merged where the method merges."""
    directory = run.result_directory
    if run.search is not None and run.search.finetune_epochs and not run.method.retrained:
        return load_tuned(run, run.search).merge()
    method, _ = final_method(run, directory)
    if run.method.searched and not run.method.retrained:
        supernet = searched(method)
        return supernet.evaluator().write(read_winner(supernet.space, directory))
    return method.merge() if method.mergeable else method.model


def features(run: Run, images: int) -> Features:
    """What the classifier of the measured model reads for at most so many test images, their classes balanced.

    The same images for every run of a task.

    Raises:
        ConfigError: if the run is not evaluated, or its model has no single classifier that reads one vector an image.
        FloatingPointError: if the model gives logits that are not finite.
    """
    if not (run.result_directory / "result.json").exists():
        raise ConfigError(f"{run.result_directory} is not evaluated yet; run evaluate.py with the same overrides first")
    run = chosen(run)
    model, test = measured_model(run).eval(), balanced_cut(test_split(run), images)
    head, read = find_classifier(model), list[Tensor]()
    if head is None or isinstance(head, nn.ModuleList):
        raise ConfigError(f"{run.backbone.timm_name} has no single classifier, whose input is what is drawn")
    hook = head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0].detach().float().cpu()))
    found = predict(model, Batches(test.images, Preprocess(run), test.labels.device), test.labels)
    hook.remove()
    labels = test.labels.cpu()
    values = torch.cat(read) if read else torch.zeros(0)
    if values.ndim != 2 or len(values) != len(labels):
        raise ConfigError(f"the classifier of {run.backbone.timm_name} does not read one vector an image")
    return Features(values, labels, float((found.classes == labels).float().mean()))
