"""A copy prepared by tensorflow-datasets in the array_record format, read without TensorFlow and never fetched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from data.base import DataError, TaskInfo
from data.labels import clevr_count, clevr_distance, dsprites_location, dsprites_orientation, kitti_distance
from data.order import SLICES
from data.sources.base import Example, Listing
from data.vtab_table import VTAB_BY_ID

_LABELS: dict[str, Callable[[dict[str, Any]], int]] = {
    "clevr_count": lambda e: clevr_count(len(e["objects"]["pixel_coords"])),
    "clevr_dist": lambda e: clevr_distance(float(p[2]) for p in e["objects"]["pixel_coords"]),
    "kitti_dist": lambda e: kitti_distance(
        float(p[2]) for kind, p in zip(e["objects"]["type"], e["objects"]["location"], strict=True) if kind < 3
    ),
    "dspr_loc": lambda e: dsprites_location(int(e["label_x_position"])),
    "dspr_ori": lambda e: dsprites_orientation(int(e["label_orientation"])),
    "snorb_azim": lambda e: int(e["label_azimuth"]),
    "snorb_ele": lambda e: int(e["label_elevation"]),
}


def copy_folder(root: Path, task_id: str) -> Path:
    """The newest prepared version of the task's builder; DataError at once when there is none."""
    home = root / VTAB_BY_ID[task_id].builder
    found = sorted(p.parent for p in home.glob("*/dataset_info.json"))
    if not found:
        raise DataError(
            f"missing {home}/<version>/dataset_info.json: no prepared copy of {task_id}; prepare it with "
            f"tensorflow-datasets (file_format=array_record), or use source=raw or source=noah"
        )
    return found[-1]


def tfds(root: Path, task: TaskInfo) -> dict[str, Listing]:
    """Listings of the source splits, in their final order."""
    folder = copy_folder(root, task.id)
    os.environ.setdefault("TFDS_DISABLE_GCS", "1")
    import tensorflow_datasets

    builder = tensorflow_datasets.builder_from_directory(str(folder))
    if builder.info.file_format.value != "array_record":
        raise DataError(f"{folder} is in the format {builder.info.file_format.value}, which needs TensorFlow to read; "
                        "convert it with: tfds convert_format --out_file_format array_record")  # fmt: skip
    decoders = {"image": tensorflow_datasets.decode.SkipDecoding()}
    out = {}
    for split in SLICES[task.id].sizes:
        if split not in builder.info.splits:
            raise DataError(f"{folder} has no split '{split}'")
        out[split] = _listing(builder.as_data_source(split, decoders=decoders), task.id, f"{folder}:{split}")
    return out


def _listing(rows: Any, task_id: str, name: str) -> Listing:
    label = _LABELS.get(task_id, lambda e: int(e["label"]))

    def get(i: int) -> Example:
        row = rows[i]
        picture = row["image"]
        if task_id.startswith("dspr"):
            from data.images import to_rgb

            picture = np.asarray(to_rgb(picture, f"{name}[{i}]")) * 255  # stored as 0 and 1
        return Example(picture, label(row), f"{name}[{i}]")

    return Listing(len(rows), get, None)
