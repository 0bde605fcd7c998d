"""Raw archives by task: which reader, and which tasks have none and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from data.base import DataError, TaskInfo
from data.sources import raw_arrays as arrays
from data.sources import raw_files as files
from data.sources.base import Listing
from data.sources.raw_records import dmlab
from data.vtab_table import VTAB_BY_ID

READERS: dict[str, Callable[[Path, str], dict[str, Listing]]] = {
    "cifar100": arrays.cifar100,
    "dtd": files.dtd,
    "flowers102": files.flowers102,
    "pets": files.pets,
    "svhn": arrays.svhn,
    "sun397": files.sun397,
    "camelyon": arrays.camelyon,
    "eurosat": files.eurosat,
    "resisc45": files.resisc45,
    "retinopathy": files.retinopathy,
    "clevr_count": files.clevr,
    "clevr_dist": files.clevr,
    "dmlab": dmlab,
    "kitti_dist": files.kitti,
    "dspr_loc": arrays.dsprites,
    "dspr_ori": arrays.dsprites,
    "snorb_azim": arrays.smallnorb,
    "snorb_ele": arrays.smallnorb,
}

REFUSED = {
    "caltech101": "tensorflow-datasets draws its train split over an unsorted directory listing, so raw files give "
    "another 1000 images on another machine",
}
"""Tasks whose official images cannot be had from raw files."""


def raw_folder(root: Path, task_id: str) -> Path:
    """Where the unpacked archives of a task lie; tasks of one data set share it."""
    return root / VTAB_BY_ID[task_id].builder.partition("/")[0]


def raw(root: Path, task: TaskInfo) -> dict[str, Listing]:
    """Listings of the source splits with their keys; DataError for the tasks that raw files cannot give."""
    if task.id in REFUSED:
        raise DataError(f"{task.id} has no source=raw: {REFUSED[task.id]}. Use source=noah or source=tfds")
    return READERS[task.id](raw_folder(root, task.id), task.id)
