"""Finished runs to make reports of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from glora.evaluation import Predictions
from runner.report.plots import plot_training
from runner.report.plots_classes import plot_confusion
from runner.report.predictions import PREDICTIONS, confusion, write_predictions
from runner.report.result import write_result
from tests.helpers.pages import MakeRun
from tests.helpers.records import record


@pytest.fixture
def labels() -> torch.Tensor:
    """Of six test images."""
    return torch.tensor([0, 0, 1, 1, 2, 2])


@pytest.fixture
def predictions() -> Predictions:
    """Of these images, two of them wrong."""
    return Predictions(torch.tensor([0, 1, 1, 1, 0, 2]), torch.tensor([0.9, 0.2, 0.8, 0.7, 0.05, 0.6]))


@pytest.fixture
def finished_run(labels: torch.Tensor, predictions: Predictions) -> MakeRun:
    """A run with curves, predictions, thumbnails and a confusion matrix."""

    def made(root: Path, name: str, **changes: Any) -> Path:
        directory = root / "digits" / name
        plots = directory / "plots"
        plot_training([{"epoch": e, "loss": 1.0 / e, "lr": 0.1} for e in (1, 2)], plots / "train_train800.png")
        images = torch.arange(6 * 3 * 8 * 8).remainder(256).to(torch.uint8).view(6, 3, 8, 8)
        write_predictions(directory / PREDICTIONS, predictions, labels, images)
        plot_confusion(confusion(directory / PREDICTIONS), plots / "confusion.png")
        write_result(directory / "result.json", record(overrides=["dataset=digits", "ranks=[8,4]"], **changes))
        return directory

    return made
