"""The mini suite: six tasks that need no download, with the splits of VTAB-1K.

Handwritten digits come from scikit-learn; the others are rendered. A split is a pure function of the task, the split's
name and `VERSION`, so two machines agree on every image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from data.base import STORED_SPLITS, DataError, Split, TaskInfo, hash_content
from data.draw import Array, to_uint8
from data.shapes import render_count, render_distance, render_location, render_orientation
from data.stratify import stratified
from data.tasks import MINI_IMAGE_SIZE
from data.textures import render_textures

VERSION = 1
"""Raise with any change to what is drawn or split: it is part of every content hash and makes old caches stale."""

_CHUNK = 200  # images drawn at once: bounds memory at about 100 MB

Renderer = Callable[[np.random.Generator, NDArray[np.int64]], Array]

RENDERERS: dict[str, Renderer] = {
    "textures": render_textures,
    "shapes_count": render_count,
    "shapes_location": render_location,
    "shapes_orientation": render_orientation,
    "shapes_distance": render_distance,
}


def salt(task_id: str) -> str:
    """What is hashed beside the content of a mini task: its name and the generator's version."""
    return f"glora-mini/{task_id}/v{VERSION}"


def _generator(*keys: str) -> np.random.Generator:
    """A PCG64 stream of its own for each sequence of keys. Python's hash() would differ between processes."""
    digest = hashlib.sha256("/".join(keys).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def _as_split(task: TaskInfo, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
    image_tensor, label_tensor = torch.from_numpy(images), torch.from_numpy(labels)
    return Split(image_tensor, label_tensor, hash_content(image_tensor, label_tensor, salt(task.id)))


def render_split(task: TaskInfo, split: str) -> Split:
    """Draw one stored split of a rendered task: classes as equal in number as they can be, in random order."""
    count = task.split_sizes[split]
    rng = _generator(salt(task.id), split)
    labels = rng.permutation(np.arange(count, dtype=np.int64) % task.num_classes)
    images = np.empty((count, 3, MINI_IMAGE_SIZE, MINI_IMAGE_SIZE), dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        images[start : start + _CHUNK] = to_uint8(RENDERERS[task.id](rng, labels[start : start + _CHUNK]))
    return _as_split(task, images, labels)


def _upscale8(images: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Grey values 0..16 (n, 8, 8) to bytes (n, 3, 64, 64), bilinearly.

    Whole numbers throughout: weights are sixteenths, so the result is exact everywhere, ties included.
    """
    source = np.arange(64) * 2 - 7  # sixteenths of a source pixel, from the first pixel's centre
    left = np.floor_divide(source, 16)
    weight = source - 16 * left
    low, high = np.clip(left, 0, 7), np.clip(left + 1, 0, 7)
    rows = images[:, low] * (16 - weight)[:, None] + images[:, high] * weight[:, None]
    both = rows[:, :, low] * (16 - weight) + rows[:, :, high] * weight  # 0..16 * 256
    grey = ((both * 255 + 2048) // 4096).astype(np.uint8)
    return np.repeat(grey[:, None], 3, axis=1)


def digits_splits(task: TaskInfo) -> dict[str, Split]:
    """The stored splits of the UCI digits that ship with scikit-learn (1797 images)."""
    try:
        from sklearn.datasets import load_digits  # here, as nothing else needs it and it takes a second to import
    except ImportError as error:
        raise DataError("dataset digits needs scikit-learn, which is not installed; next: pip install scikit-learn "
                        "(the other mini tasks are drawn and need nothing)") from error  # fmt: skip
    bunch = load_digits()
    images = _upscale8(np.rint(bunch.images).astype(np.int64))
    labels = np.asarray(bunch.target, dtype=np.int64)
    parts = stratified(labels, [task.split_sizes[s] for s in STORED_SPLITS], _generator(salt(task.id)))
    return {s: _as_split(task, images[part], labels[part]) for s, part in zip(STORED_SPLITS, parts, strict=True)}


def build_task(task: TaskInfo) -> dict[str, Split]:
    """All stored splits of a mini task, made from nothing; takes a few seconds."""
    if task.id == "digits":
        return digits_splits(task)
    return {split: render_split(task, split) for split in STORED_SPLITS}
