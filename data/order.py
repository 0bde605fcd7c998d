"""Which images make the 1000, and in which order: a pure function of example keys, so that no TensorFlow is needed.

tensorflow-datasets writes the examples of a split sorted by the md5 of split name and key, and VTAB-1K slices that
order (google-research/task_adaptation); shard counts and file formats do not change it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data.base import DataError

TRAIN, VAL = 800, 200


class Slices(NamedTuple):
    """Where val200 and test begin: source split and percent of it. train800 is the first 800 of "train"."""

    val: tuple[str, int]
    test: tuple[str, int]
    sizes: Mapping[str, int]


_VALIDATION, _TEST = ("validation", 0), ("test", 0)
_DSPRITES = Slices(("train", 80), ("train", 90), {"train": 737280})
_SMALLNORB = Slices(("test", 0), ("test", 50), {"train": 24300, "test": 24300})
_CLEVR = Slices(("train", 90), ("validation", 0), {"train": 70000, "validation": 15000})

SLICES: dict[str, Slices] = {
    "cifar100": Slices(("train", 90), _TEST, {"train": 50000, "test": 10000}),
    "caltech101": Slices(("train", 90), _TEST, {"train": 3060, "test": 6084}),
    "dtd": Slices(_VALIDATION, _TEST, {"train": 1880, "validation": 1880, "test": 1880}),
    "flowers102": Slices(_VALIDATION, _TEST, {"train": 1020, "validation": 1020, "test": 6149}),
    "pets": Slices(("train", 80), _TEST, {"train": 3680, "test": 3669}),
    "svhn": Slices(("train", 90), _TEST, {"train": 73257, "test": 26032}),
    "sun397": Slices(_VALIDATION, _TEST, {"train": 76128, "validation": 10875, "test": 21750}),
    "camelyon": Slices(_VALIDATION, _TEST, {"train": 262144, "validation": 32768, "test": 32768}),
    "eurosat": Slices(("train", 60), ("train", 80), {"train": 27000}),
    "resisc45": Slices(("train", 60), ("train", 80), {"train": 31500}),
    "retinopathy": Slices(_VALIDATION, _TEST, {"train": 35126, "validation": 10906, "test": 42670}),
    "clevr_count": _CLEVR,
    "clevr_dist": _CLEVR,
    "dmlab": Slices(_VALIDATION, _TEST, {"train": 65550, "validation": 22628, "test": 22735}),
    "kitti_dist": Slices(_VALIDATION, _TEST, {"train": 6347, "validation": 423, "test": 711}),
    "dspr_loc": _DSPRITES,
    "dspr_ori": _DSPRITES,
    "snorb_azim": _SMALLNORB,
    "snorb_ele": _SMALLNORB,
}
"""The official slices of the 19 tasks, with the source split sizes they assume."""


def hash_order(split: str, keys: Sequence[str | int]) -> list[int]:
    """Positions of `keys` in the order of md5(split + key), the order tensorflow-datasets writes."""
    return sorted(range(len(keys)), key=lambda i: hashlib.md5(f"{split}{keys[i]}".encode()).digest())


def member_range(task_id: str, split: str, sizes: Mapping[str, int]) -> tuple[str, range]:
    """Source split and positions (in its order) of one stored split, for source splits of the given sizes.

    Raises:
        DataError: if a slice would run past the end.
    """
    slices = SLICES[task_id]
    if split == "train800":
        source, start, stop = "train", 0, TRAIN
    else:
        source, percent = slices.val if split == "val200" else slices.test
        start = percent * sizes[source] // 100
        stop = start + VAL if split == "val200" else sizes[source]
    if stop > sizes[source] or start == stop:
        raise DataError(f"{task_id}: {split} needs images {start} to {stop} of '{source}', which has {sizes[source]}")
    return source, range(start, stop)
