"""What a finished run says of every test image, kept beside its result, and the images that it gets most wrong.

`predictions.safetensors` holds, for N test images: `label` and `predicted` (N,) int32, `probability` (N,) float32, that
of the label, and of the K images with the lowest one that are wrong `worst` (K,) int64 and `images` (K, 3, S, S) uint8.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from data import resize_batch
from glora.evaluation import Predictions
from runner.rundir.weights import read_tensors, write_weights

PREDICTIONS = "predictions.safetensors"
AGAIN = "delete it with result.json beside it, and run evaluate.py with the same overrides again"
KEPT = 12
"""Wrong images that are kept as thumbnails."""
SIDE = 64
"""Pixels of a thumbnail's side."""


@dataclass(frozen=True)
class Examples:
    """A wrong image: its index in the test split, both classes, the label's probability in percent, and a thumbnail."""

    index: int
    label: int
    predicted: int
    probability: str
    thumbnail: Image.Image

    @property
    def uri(self) -> str:
        """The thumbnail inside a page, a tenth of the size of a PNG."""
        stream = io.BytesIO()
        self.thumbnail.save(stream, "WEBP", quality=85)
        return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()


def write_predictions(path: Path, found: Predictions, labels: Tensor, images: Tensor) -> None:
    """Keep the predictions on the test images (N, 3, h, w) uint8 and thumbnails of the worst."""
    labels = labels.cpu()
    wrong = (found.classes != labels).nonzero().flatten()
    worst = wrong[found.probability[wrong].argsort(stable=True)][:KEPT]
    small = torch.zeros(0, 3, SIDE, SIDE, dtype=torch.uint8)
    if len(worst):
        small = resize_batch(images[worst.to(images.device)].cpu(), SIDE, "bicubic")
    write_weights(path, {"label": labels.int(), "predicted": found.classes.int(), "probability": found.probability,
                         "worst": worst, "images": small})  # fmt: skip


def read_labels(path: Path) -> tuple[Tensor, Tensor]:
    """(N,) int64 labels and predictions of all test images. Raises ConfigError if the file is damaged."""
    stored = read_tensors(path, AGAIN)
    return stored["label"].long(), stored["predicted"].long()


def confusion(path: Path) -> Tensor:
    """(C, C) counts: rows are labels, columns predictions. Raises ConfigError if the file is damaged."""
    label, predicted = read_labels(path)
    classes = int(max(label.max(), predicted.max())) + 1
    return torch.bincount(label * classes + predicted, minlength=classes**2).view(classes, classes)


def read_examples(path: Path) -> list[Examples]:
    """The worst examples of a run, worst first. Raises ConfigError if the file is damaged."""
    stored = read_tensors(path, AGAIN)
    found = []
    for index, image in zip(stored["worst"].tolist(), stored["images"], strict=True):
        label, predicted = int(stored["label"][index]), int(stored["predicted"][index])
        probability = f"{100 * float(stored['probability'][index]):.1f}"
        found.append(Examples(index, label, predicted, probability, Image.fromarray(image.permute(1, 2, 0).numpy())))
    return found
