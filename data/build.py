"""Prepare a VTAB task: from a source to the cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import PIL

from data.base import STORED_SPLITS, DataError, TaskInfo
from data.cache import sound, write_split
from data.images import prepare_image
from data.order import SLICES, hash_order, member_range
from data.sources.base import Listing
from data.sources.noah import noah
from data.sources.raw import raw
from data.sources.tfds import tfds
from data.vtab_table import VTAB_SOURCES

READERS: dict[str, Callable[[Path, TaskInfo], dict[str, Listing]]] = {"raw": raw, "tfds": tfds, "noah": noah}
FOLDERS = {"raw": "raw", "tfds": "tfds", "noah": "vtab-1k"}
"""Where each source lies under the data root unless said otherwise."""


def source_roots(data_root: Path, source: str, source_root: Path | None = None) -> dict[str, Path]:
    """Where each source lies; `source` in `source_root` where that is given."""
    roots = {name: data_root / folder for name, folder in FOLDERS.items()}
    return roots | {source: source_root} if source_root else roots


NATIVE = {"dspr_loc": 64, "dspr_ori": 64}
"""Tasks whose test images are kept at their own size and resized on the fly: 73,728 of them would be 11 GB at 224."""


def variant(source: str, codec: str, resize: str) -> str:
    """The cache folder's name."""
    return f"{source}-{codec}-{resize}"


def split_path(task_id: str, split: str, data_root: Path, variant_name: str) -> Path:
    """The cache file of one split."""
    return data_root / "vtab" / task_id / variant_name / f"{split}.safetensors"


def select(task: TaskInfo, listings: dict[str, Listing], exact: bool = True) -> dict[str, tuple[Listing, list[int]]]:
    """For each stored split the listing and the positions in it, in order.

    `exact` asks for the official source sizes; sun397 may lack the one image that tensorflow-datasets skips.

    Raises:
        DataError: on another number of examples.
    """
    if set(listings) == set(STORED_SPLITS):  # the splits themselves
        return {split: (listing, list(range(listing.size))) for split, listing in listings.items()}
    for split, expected in SLICES[task.id].sizes.items():
        found = listings[split].size
        allowed = (expected, expected - 1) if task.id == "sun397" else (expected,)
        if exact and found not in allowed:
            raise DataError(f"{task.id}: source split '{split}' has {found} examples, not {expected}; fetch it again")
    sizes = {split: listing.size for split, listing in listings.items()}
    orders: dict[str, list[int]] = {}
    out = {}
    for stored in STORED_SPLITS:
        split, members = member_range(task.id, stored, sizes)
        if split not in orders:
            keys = listings[split].keys
            orders[split] = list(range(sizes[split])) if keys is None else hash_order(split, keys)
        out[stored] = listings[split], [orders[split][i] for i in members]
    return out


def build(
    task: TaskInfo,
    data_root: Path,
    source: str,
    codec: str = "raw",
    resize: str = "bicubic",
    source_root: Path | None = None,
    exact: bool = True,
    progress: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> bool:
    """Make the missing or damaged splits of a task; False when there was nothing to do, or another process did it.

    Raises:
        DataError: for missing or damaged sources, for what the source cannot give, and for a disk that is full.
    """
    if source not in VTAB_SOURCES:
        raise DataError(f"unknown source '{source}'; choose one of {', '.join(VTAB_SOURCES)}")
    name = variant(source, codec, resize)
    todo = [split for split in STORED_SPLITS if not sound(split_path(task.id, split, data_root, name))]
    if not todo:
        return False
    try:
        listings = READERS[source](source_roots(data_root, source, source_root)[source], task)
    except OSError as error:  # such as a folder without the right to read it
        raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error
    chosen = select(task, listings, exact)
    stored = "jpeg75 (as stored)" if (source, codec) == ("noah", "raw") else codec  # what the images went through
    info = {"task": task.id, "source": source, "codec": stored, "resize": resize, "pillow": PIL.__version__}
    made = False
    for split in todo:
        listing, order = chosen[split]
        size = NATIVE.get(task.id, task.image_size) if split == "test" else task.image_size

        def get(
            i: int, listing: Listing = listing, order: list[int] = order, size: int = size
        ) -> tuple[np.ndarray, int]:
            example = listing.get(order[i])
            if not 0 <= example.label < task.num_classes:
                raise DataError(f"{example.name}: label {example.label} is not in 0 to {task.num_classes - 1}")
            return prepare_image(example.image, example.name, size, codec, resize), example.label

        def name_of(i: int, listing: Listing = listing, order: list[int] = order) -> str:
            return listing.get(order[i]).name

        path, show = split_path(task.id, split, data_root, name), partial(progress, split)
        made |= write_split(path, len(order), size, get, {**info, "split": split}, task.num_classes, show, name_of)
    return made
