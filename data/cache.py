"""The cache of prepared splits: one safetensors file each, read memory-mapped, with a small JSON beside it.

    <data_root>/vtab/<task>/<source>-<codec>-<resize>/<split>.safetensors   labels int64 (N,), images uint8 (N, 3, s, s)
                                                      <split>.json          source, versions, counts, content hash

The JSON is written last: a file without one is not finished and is made anew. An empty <split>.safetensors.lock stays
beside it: what processes that make one split at the same time wait on.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, Field, NonNegativeInt
from safetensors import SafetensorError, safe_open

from data.base import DataError, Split, hash_content, usable_cpus
from data.files import appending, read_bytes, regular, remove_temporaries, write_text, writing

log = logging.getLogger(f"glora.{__name__}")

SCHEMA = 1
BATCH = 256

FLAT = 8
"""An image whose every channel spans fewer of the 256 levels than this (3 %) shows nothing."""

_without_locks: set[int] = set()
"""The devices (st_dev) of the file systems that were warned of."""


def take_lock(stream: IO[Any], folder: Path, wait: bool = False) -> bool:
    """Lock the open file for as long as it is open; False where another process has it and `wait` is not set.

    The lock is the kernel's: it goes with the process, so a killed one blocks nobody. Where the file system of
    `folder` knows no locks (Lustre without its flock option, some network mounts), True after one warning: a file
    that marks the folder as taken would stay behind a killed process, and block the folder.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        device = os.fstat(stream.fileno()).st_dev
        if device not in _without_locks:
            _without_locks.add(device)
            log.warning(
                "the file system of %s has no locks (%s): two processes in one folder are not kept apart there",
                folder,
                error.strerror,
            )
    return True


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the right to make `path`, waiting for another process that has it."""
    with appending(path.with_name(f"{path.name}.lock")) as stream:
        if not take_lock(stream, path.parent):
            log.warning("%s is being made by another process; waiting for it", path)
            take_lock(stream, path.parent, wait=True)
        remove_temporaries(path)
        yield


def _reserve(stream: BinaryIO, size: int, free: Path) -> None:
    """Give the file `size` bytes of the disk now; OSError where there are not so many."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, size)
        return
    # macOS can only be asked.
    if shutil.disk_usage(free).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    stream.truncate(size)


def is_flat(image: np.ndarray) -> bool:
    """Whether uint8 (3, H, W) is of one colour, or nearly so."""
    rows = np.ascontiguousarray(image).reshape(3, -1)  # 375x500 from (H, W, 3): 0.2 ms, not 13
    return int((rows.max(1) - rows.min(1)).max()) < FLAT


def warn_flat(path: Path, flat: Sequence[int], count: int, name: Callable[[int], str]) -> None:
    """Log how many of the `count` images of `path` are flat, and the first; `flat` has their indices."""
    if flat:
        log.warning("%s: %d of %d images are of one colour or nearly so, the first is %s; were they decoded as they "
                    "should be?", path, len(flat), count, name(flat[0]))  # fmt: skip


def write_split(
    path: Path,
    count: int,
    size: int,
    get: Callable[[int], tuple[np.ndarray, int]],
    info: dict[str, Any],
    classes: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    name: Callable[[int], str] = lambda i: f"image {i}",
) -> bool:
    """Fill `path` with `count` examples from `get` (uint8 (3, size, size) and label), decoding in parallel.

    Images of one colour are counted in a warning with the `name` of the first.

    Space is reserved first, so that a full disk is an error before any work; nothing under the final name exists
    until all is written. One process makes a split at a time; the others wait. False where it was whole already, which
    is how they find it.

    Raises:
        DataError: if the file cannot be written, or a label is not in [0, classes).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):
            if sound(path):
                log.info("%s was made by another process", path)
                return False
            warn_flat(path, _write(path, count, size, get, info, classes, progress), count, name)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        needed = f"{count * 3 * size * size / 1e9:.2f} GB are needed" if full else "set data_root="
        raise DataError(f"cannot write {path} ({error.strerror or error}); {needed}") from error
    return True


def _write(
    path: Path,
    count: int,
    size: int,
    get: Callable[[int], tuple[np.ndarray, int]],
    info: dict[str, Any],
    classes: int,
    progress: Callable[[int, int], None],
) -> list[int]:
    """Write the files; the indices of flat images."""
    flat: list[int] = []
    with writing(path) as part:
        parts = reserve(part, {"labels": ("I64", (count,)), "images": ("U8", (count, 3, size, size))})
        images, labels = parts["images"], parts["labels"]
        # Threads: Pillow and zlib release the interpreter lock, and nothing has to be sent between processes. JPEGs of
        # 375x500 on 2 cores: 280 images/s (6.0 s of processor time) against 213 (6.9 s) in processes.
        with ThreadPoolExecutor(usable_cpus()) as pool:
            for first in range(0, count, BATCH):
                block = range(first, min(first + BATCH, count))
                for i, (image, label) in zip(block, pool.map(get, block), strict=True):
                    if not 0 <= label < classes:
                        raise DataError(f"{path.parent.parent.name}: label {label} of image {i} is not in 0 to "
                                        f"{classes - 1}")  # fmt: skip
                    images[i], labels[i] = image, label
                    if is_flat(images[i]):
                        flat.append(i)
                progress(block.stop, count)
        record = info | {
            "count": count,
            "size": size,
            "class_counts": np.bincount(labels, minlength=classes).tolist(),
            "content_hash": hash_content(torch.from_numpy(images), torch.from_numpy(np.array(labels))),
        }
        finish(path, parts)
    describe(path, record)
    return flat


def reserve(part: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> dict[str, np.memmap]:
    """A safetensors file of the given dtypes ("I64", those first, or "U8") and shapes, its space reserved, to fill in.

    Raises:
        OSError: on a full disk.
    """
    header: dict[str, Any] = {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape)) * (8 if dtype == "I64" else 1)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with open(part, "wb", opener=regular) as stream:
        _reserve(stream, start + end, part.parent)
        stream.write(len(text).to_bytes(8, "little") + text)
    return {name: np.memmap(part, "<i8" if dtype == "I64" else np.uint8, "r+",
                            start + header[name]["data_offsets"][0], shape)
            for name, (dtype, shape) in tensors.items()}  # fmt: skip


def finish(path: Path, tensors: dict[str, np.memmap]) -> None:
    """All is filled in and about to get the name `path`: the JSON there is of another file from now on."""
    for tensor in tensors.values():
        tensor.flush()
    path.with_suffix(".json").unlink(missing_ok=True)


def describe(path: Path, record: dict[str, Any]) -> None:
    """Write `record` beside a file that has its name, which says that it is whole."""
    write_text(path.with_suffix(".json"), json.dumps({"schema": SCHEMA, **record}, indent=1) + "\n")


class Info(BaseModel, strict=True, frozen=True):
    """The JSON beside a cache file: what is in it, and where it comes from."""

    written: Literal[1] = Field(alias="schema")
    count: NonNegativeInt
    content_hash: str
    source: str
    codec: str
    resize: str


Kind = TypeVar("Kind", bound=Info)


def read_info(path: Path) -> Info | None:
    """The JSON beside a cache file; None when the split is not (wholly) there or was written by another version."""
    return read_info_as(path, Info)


def read_info_as(path: Path, kind: type[Kind]) -> Kind | None:
    """As `read_info`, with what the files of this kind say besides."""
    try:
        info = kind.model_validate_json(read_bytes(path.with_suffix(".json")))
    except (OSError, ValueError):
        return None
    return info if path.is_file() else None


Layout = Mapping[str, tuple[torch.dtype, tuple[int | None, ...]]]
"""The dtype and the shape of each tensor; None: as long as it is."""


def typed_tensors(get: Callable[[str], torch.Tensor], layout: Layout) -> list[torch.Tensor]:
    """The tensors of `layout`, by `get_tensor` of an open file. Raises ValueError for one of another dtype or shape.

    A content hash is of numbers: 1.0 has that of 1, and (2, 6) that of (12,).
    """
    found = [get(name) for name in layout]
    for tensor, (name, (dtype, shape)) in zip(found, layout.items(), strict=True):
        alike = len(shape) == tensor.ndim and all(n in (None, m) for n, m in zip(shape, tensor.shape, strict=True))
        if tensor.dtype != dtype or not alike:
            raise ValueError(f"its {name} are {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}")
    return found


def read_tensors(path: Path, layout: Callable[[int], Layout], remedy: str) -> tuple[Info, list[torch.Tensor]]:
    """The JSON and the tensors of a cache file, memory-mapped; `layout` is told how many examples the JSON says.

    Raises:
        DataError: with `remedy`, if it is missing, cannot be read or holds other tensors.
    """
    info = read_info(path)
    if info is None:
        raise DataError(f"{path} is not prepared; {remedy}")
    try:
        open(path, "rb", opener=regular).close()
        with safe_open(path, framework="pt") as file:
            return info, typed_tensors(file.get_tensor, layout(info.count))
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from error
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); {remedy}") from error


def check_hash(path: Path, found: str, info: Info, remedy: str) -> None:
    """Raise DataError unless `found` is the content hash that was recorded."""
    if found != info.content_hash:
        raise DataError(f"{path} is damaged (its content hash is not the one recorded); {remedy}")


def _of_split(count: int) -> Layout:
    return {"images": (torch.uint8, (count, 3, None, None)), "labels": (torch.int64, (count,))}


def read_split(path: Path, remedy: str) -> Split:
    """A split, memory-mapped, checked against its hash; DataError with `remedy` when it is damaged."""
    info, (images, labels) = read_tensors(path, _of_split, remedy)
    if images.shape[2] != images.shape[3]:
        raise DataError(f"{path} is damaged (its images are {tuple(images.shape)}); {remedy}")
    found = hash_content(images, labels)
    check_hash(path, found, info, remedy)
    return Split(images, labels, found, info.source, info.codec, info.resize)


def sound(path: Path, read: Callable[[Path, str], object] = read_split) -> bool:
    """Whether the cache file is whole; `read` reads and hashes it."""
    try:
        read(path, "")
    except DataError:
        return False
    return True
