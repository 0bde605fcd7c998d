"""The cache of prepared splits: one safetensors file each, read memory-mapped, with a small JSON beside it.

    <data_root>/vtab/<task>/<source>-<codec>-<resize>/<split>.safetensors   labels int64 (N,), images uint8 (N, 3, s, s)
                                                      <split>.json          source, versions, counts, content hash

The JSON is written last: a file without one is not finished and is made anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from data.base import DataError, Split, hash_content

SCHEMA = 1
BATCH = 256


def write_split(
    path: Path,
    count: int,
    size: int,
    get: Callable[[int], tuple[np.ndarray, int]],
    info: dict[str, Any],
    classes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Fill ``path`` with ``count`` examples from ``get`` (uint8 (3, size, size) and label), decoding in parallel.

    Space is reserved first, so that a full disk is an error before any work; nothing under the final name exists
    until all is written. Raises DataError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shape, part = (count, 3, size, size), path.with_name(path.name + ".part")
    total = int(np.prod(shape))
    header: dict[str, Any] = {
        "labels": {"dtype": "I64", "shape": [count], "data_offsets": [0, 8 * count]},
        "images": {"dtype": "U8", "shape": list(shape), "data_offsets": [8 * count, 8 * count + total]},
    }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    try:
        with part.open("wb") as stream:
            os.posix_fallocate(stream.fileno(), 0, start + 8 * count + total)
            stream.write(len(text).to_bytes(8, "little") + text)
        images = np.memmap(part, np.uint8, "r+", start + 8 * count, shape)
        labels = np.memmap(part, "<i8", "r+", start, (count,))
        workers = len(os.sched_getaffinity(0))
        # Threads: Pillow and zlib release the interpreter lock, and nothing has to be sent between processes.
        with ThreadPoolExecutor(workers) as pool:
            for first in range(0, count, BATCH):
                block = range(first, min(first + BATCH, count))
                for i, (image, label) in zip(block, pool.map(get, block), strict=True):
                    if not 0 <= label < classes:
                        raise DataError(f"{path.parent.parent.name}: label {label} of image {i} is not in 0 to "
                                        f"{classes - 1}")  # fmt: skip
                    images[i], labels[i] = image, label
                progress(block.stop, count)
        record = info | {
            "schema": SCHEMA,
            "count": count,
            "size": size,
            "class_counts": np.bincount(labels, minlength=classes).tolist(),
            "content_hash": hash_content(torch.from_numpy(images), torch.from_numpy(np.array(labels))),
        }
        images.flush()
        labels.flush()
        note = path.with_suffix(".json.part")
        note.write_text(json.dumps(record, indent=1) + "\n")
        path.with_suffix(".json").unlink(missing_ok=True)
        part.replace(path)
        note.replace(path.with_suffix(".json"))
    except OSError as error:
        raise DataError(f"cannot write {path} ({error.strerror or error}); {total / 1e9:.2f} GB are needed") from error
    finally:
        part.unlink(missing_ok=True)


def read_info(path: Path) -> dict[str, Any] | None:
    """The JSON beside a cache file; None when the split is not (wholly) there or was written by another version."""
    try:
        info: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return None
    return info if path.is_file() and info.get("schema") == SCHEMA else None


def read_split(path: Path, remedy: str) -> Split:
    """A split, memory-mapped, checked against its hash; DataError with ``remedy`` when it is damaged."""
    info = read_info(path)
    if info is None:
        raise DataError(f"{path} is not prepared; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            images, labels = file.get_tensor("images"), file.get_tensor("labels")
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    found = hash_content(images, labels)
    if found != info["content_hash"]:
        raise DataError(f"{path} is damaged (its content hash is not the one recorded); {remedy}")
    return Split(images, labels, found, info["source"], info["codec"], info["resize"])
