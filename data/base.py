"""What every part of the data package shares: a task, a split, an error, and the default data root."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

SPLITS: tuple[str, ...] = ("train800", "val200", "train800val200", "test")
"""The four splits of VTAB-1K, which the mini tasks copy. `train800val200` is the other two one after the other."""

STORED_SPLITS: tuple[str, ...] = ("train800", "val200", "test")
"""The splits that do not follow from others."""


class DataError(Exception):
    """Data is missing, damaged or asked for by a wrong name. The message is complete and meant for the user."""


class MissingData(DataError):
    """A source file is not there; fetching it may help."""


class MissingCopy(DataError):
    """A prepared copy of source=tfds is not there; building it may help."""


def error_text(error: BaseException) -> str:
    """What a library says is wrong, without addresses in memory; the kind of error where it says nothing."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".removeprefix(": ")
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", str(error)) or type(error).__name__


@dataclass(frozen=True)
class TaskInfo:
    """What is fixed about one classification task.

    `group` is 'natural', 'specialized' or 'structured'; `suite` is 'vtab' or 'mini'; `split_sizes` maps each
    name in `SPLITS` to its number of images; `image_size` is the side of the stored square images in pixels.
    """

    id: str
    title: str
    group: str
    suite: str
    num_classes: int
    split_sizes: Mapping[str, int]
    image_size: int


@dataclass(frozen=True)
class Split:
    """One split held in memory: `images` uint8 (N, 3, H, W) in 0..255, `labels` int64 (N,) in [0, classes).

    `content_hash` is the sha256 (hex) of the content; two splits with one hash hold the same images and labels in
    the same order. `source`, `codec` and `resize` say where a VTAB task's images come from and what was done to
    them.
    """

    images: Tensor
    labels: Tensor
    content_hash: str
    source: str = "rendered"
    codec: str = "raw"
    resize: str = "bicubic"


def hash_content(images: Tensor, labels: Tensor, salt: str = "") -> str:
    """sha256 (hex) over the image bytes, then the label bytes, then `salt` (the generator's name and version).

    `images` uint8 and `labels` int64, both on the CPU; the order of examples matters.
    """
    digest = hashlib.sha256()
    digest.update(images.contiguous().numpy().data.cast("B"))
    # '<i8' fixes the byte order, so that a hash written down on one machine holds on any other.
    digest.update(labels.contiguous().numpy().astype("<i8", copy=False).tobytes())
    digest.update(salt.encode())
    return digest.hexdigest()


def parts_of(split: str) -> tuple[str, ...]:
    """The stored splits that make up `split`."""
    return ("train800", "val200") if split == "train800val200" else (split,)


def joined(parts: Sequence[Split], salt: str = "") -> Split:
    """The parts of a split (see `parts_of`) one after the other as that split, hashed anew with `salt`."""
    if len(parts) == 1:
        return parts[0]
    images, labels = torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts])
    return replace(parts[0], images=images, labels=labels, content_hash=hash_content(images, labels, salt))


def usable_cpus() -> int:
    """How many processors this process may use; where the system does not say (macOS), all of them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def user_path(value: str | Path, key: str) -> Path:
    """The path a user gave as `key`, a leading "~" being the home folder; DataError where it is no path."""
    text = str(value)
    if not text.strip() or "\0" in text:
        raise DataError(f"{key}={text!r} is no path; write one, as in {key}=/a/folder, or leave it out")
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise DataError(f"{key}={value}: no home folder is known for this ~; write the whole path") from error


def default_data_root() -> Path:
    """Where data lives unless told otherwise: `$GLORA_DATA` when set and not empty, else `~/.cache/glora`.

    Raises:
        DataError: if there is neither.
    """
    value = os.environ.get("GLORA_DATA", "").strip()
    if value:
        return user_path(value, "GLORA_DATA")
    try:
        return user_path("~", "data_root") / ".cache" / "glora"
    except DataError as error:
        raise DataError(
            "this user has no home folder to keep data in; set GLORA_DATA=/path or add data_root=/path"
        ) from error
