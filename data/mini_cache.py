"""The cache of mini tasks, one file each, made at first use.

<data_root>/mini/<task>.safetensors   tensors <split>.images and <split>.labels; metadata: hash of each split
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from data.base import STORED_SPLITS, Split, TaskInfo, hash_content, joined, parts_of
from data.cache import typed_tensors
from data.files import regular, write_bytes
from data.mini import build_task, salt

log = logging.getLogger(f"glora.{__name__}")


def mini_path(task_id: str, data_root: Path) -> Path:
    """The cache file of a mini task."""
    return data_root / "mini" / f"{task_id}.safetensors"


def _read_mini(task: TaskInfo, split: str, path: Path) -> Split | None:
    """One stored split from the cache; None when there is none, it is from another version, or it is damaged."""
    count = task.split_sizes[split]
    try:
        open(path, "rb", opener=regular).close()
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            images, labels = typed_tensors(file.get_tensor, {
                f"{split}.images": (torch.uint8, (count, 3, task.image_size, task.image_size)),
                f"{split}.labels": (torch.int64, (count,)),
            })  # fmt: skip
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError) as error:
        log.warning("%s is damaged (%s); it is made anew", path, error)
        return None
    if metadata.get("generator") != salt(task.id):
        log.info("%s is from another version of the generator; it is made anew", path)
        return None
    found = hash_content(images, labels, salt(task.id))
    if found != metadata.get(split):
        log.warning("%s is damaged (wrong content hash of %s); it is made anew", path, split)
        return None
    return Split(images, labels, found)


def build_mini(task: TaskInfo, data_root: Path) -> dict[str, Split]:
    """Make a mini task and store it. A data root that cannot be written costs time at the next load, nothing else."""
    splits = build_task(task)
    tensors = {f"{name}.{field}": getattr(split, field) for name, split in splits.items()
               for field in ("images", "labels")}  # fmt: skip
    metadata = {name: split.content_hash for name, split in splits.items()} | {"generator": salt(task.id)}
    path = mini_path(task.id, data_root)
    try:
        write_bytes(path, save(tensors, metadata))
    except OSError as error:
        log.warning("cannot write %s (%s); dataset %s is rendered again at each start", path, error, task.id)
    return splits


def mini_ready(task: TaskInfo, data_root: Path) -> bool:
    """Whether a sound cache of this version exists; reads and hashes it."""
    path = mini_path(task.id, data_root)
    return path.is_file() and all(_read_mini(task, split, path) is not None for split in STORED_SPLITS)


def load_mini(task: TaskInfo, split: str, data_root: Path) -> Split:
    """A split of a mini task, from the cache or, failing that, made and cached."""
    wanted = parts_of(split)
    path = mini_path(task.id, data_root)
    found = [_read_mini(task, name, path) for name in wanted]
    parts = [part for part in found if part is not None]
    if len(parts) < len(wanted):
        built = build_mini(task, data_root)
        parts = [built[name] for name in wanted]
    return joined(parts, salt(task.id))
