"""Training images at their own sizes in one memory-mapped file, so that augmentation opens no image file.

Tensors: labels int64 (N,), shapes int64 (N, 2) as height and width, offsets int64 (N + 1,), pixels uint8 (total,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.base import DataError, hash_content, usable_cpus
from data.cache import (
    BATCH,
    Info,
    Layout,
    alone,
    check_hash,
    describe,
    finish,
    is_flat,
    read_tensors,
    reserve,
    warn_flat,
)
from data.decode import open_image, reading, to_rgb
from data.files import writing
from data.sources.reading import read_bytes


@dataclass(frozen=True)
class NativeImages:
    """Decoded RGB images of any size, their labels int64 (N,), their content hash and the JSON beside the file."""

    pixels: Tensor
    offsets: Tensor
    shapes: Tensor
    labels: Tensor
    content_hash: str
    info: Info

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Image `index` as a Pillow image."""
        start, stop = self.offsets[index : index + 2].tolist()
        height, width = self.shapes[index].tolist()
        return Image.fromarray(self.pixels[start:stop].view(height, width, 3).numpy())


def _hash(pixels: Tensor, labels: Tensor, shapes: Tensor) -> str:
    return hash_content(pixels, labels, str(shapes.tolist()))


def _shape(path: Path) -> tuple[int, int]:
    with reading(str(path)), open_image(path) as image:
        return image.height, image.width


def write_images(
    path: Path,
    rows: Sequence[tuple[Path, int]],
    info: dict[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Decode `rows` (file and label) into `path`; sizes are read first, so that space is reserved before work.

    Raises:
        DataError: if an image cannot be decoded or the file not be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            _fill(path, rows, info, progress)
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error})") from error


def _fill(
    path: Path, rows: Sequence[tuple[Path, int]], info: dict[str, Any], progress: Callable[[int, int], None]
) -> None:
    flat: list[int] = []
    shapes = [_shape(file) for file, _ in rows]
    offsets = np.concatenate([[0], np.cumsum([3 * h * w for h, w in shapes])])
    count, total = len(rows), int(offsets[-1])

    def decode(i: int) -> np.ndarray:
        return np.asarray(to_rgb(read_bytes(rows[i][0]), str(rows[i][0])))

    with writing(path) as part:
        parts = reserve(part, {"labels": ("I64", (count,)), "shapes": ("I64", (count, 2)),
                               "offsets": ("I64", (count + 1,)), "pixels": ("U8", (total,))})  # fmt: skip
        parts["labels"][:], parts["shapes"][:], parts["offsets"][:] = [label for _, label in rows], shapes, offsets
        with ThreadPoolExecutor(usable_cpus()) as pool:
            for first in range(0, count, BATCH):
                block = range(first, min(first + BATCH, count))
                for i, array in zip(block, pool.map(decode, block), strict=True):
                    parts["pixels"][offsets[i] : offsets[i + 1]] = array.ravel()
                    if is_flat(array.transpose(2, 0, 1)):
                        flat.append(i)
                progress(block.stop, count)
        tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in parts.items()}
        found = _hash(tensors["pixels"], tensors["labels"], tensors["shapes"])
        finish(path, parts)
    describe(path, {**info, "count": count, "content_hash": found})
    warn_flat(path, flat, count, lambda i: str(rows[i][0]))


def _layout(count: int) -> Layout:
    return {"pixels": (torch.uint8, (None,)), "shapes": (torch.int64, (count, 2)), "labels": (torch.int64, (count,))}


def read_images(path: Path, remedy: str) -> NativeImages:
    """The images, memory-mapped, checked against their hash; DataError with `remedy` when missing or damaged."""
    info, (pixels, shapes, labels) = read_tensors(path, _layout, remedy)
    found = _hash(pixels, labels, shapes)
    check_hash(path, found, info, remedy)
    # Those in the file are for other readers: the hash is not of them.
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), (3 * shapes.prod(1)).cumsum(0)])
    return NativeImages(pixels, offsets, shapes, labels, found, info)
