"""A copy prepared by tensorflow-datasets, as array_record or tfrecord, read without TensorFlow and never fetched.

Both formats hold tf.train.Example messages under "/"-joined feature names, and shards are contiguous cuts of the final
order, so that one reader serves both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, Field

from data.base import DataError, MissingCopy, TaskInfo, error_text
from data.decode import RawImage, to_rgb
from data.labels import VEHICLES, clevr_count, clevr_distance, dsprites_location, dsprites_orientation, kitti_distance
from data.order import SLICES
from data.sources.base import Example, Listing, need
from data.sources.records import DAMAGE, Value, one_bytes, one_int, parse_example, read_example, records
from data.vtab_table import VTAB_BY_ID

Features = dict[str, Value]
Get = Callable[[int], Features]


def _depths(example: Features, name: str) -> list[float]:
    """The third of every three numbers: z of a list of points."""
    return [float(value) for value in example[name][2::3]]


def _kitti(example: Features) -> int:
    kinds, depths = example["objects/type"], _depths(example, "objects/location")
    return kitti_distance(d for kind, d in zip(kinds, depths, strict=True) if int(kind) < len(VEHICLES))


_LABELS: dict[str, Callable[[Features], int]] = {
    "clevr_count": lambda e: clevr_count(len(_depths(e, "objects/pixel_coords"))),
    "clevr_dist": lambda e: clevr_distance(_depths(e, "objects/pixel_coords")),
    "kitti_dist": _kitti,
    "dspr_loc": lambda e: dsprites_location(one_int(e, "label_x_position")),
    "dspr_ori": lambda e: dsprites_orientation(one_int(e, "label_orientation")),
    "snorb_azim": lambda e: one_int(e, "label_azimuth"),
    "snorb_ele": lambda e: one_int(e, "label_elevation"),
}


class SplitInfo(BaseModel, frozen=True):
    """A split in the JSON of TFDS, which writes numbers as text."""

    name: str
    shardLengths: list[Annotated[int, Field(ge=0, lt=2**31)]] = []


class BuilderInfo(BaseModel, frozen=True):
    """What is read of `dataset_info.json`; the name is part of file names. Older versions wrote no format."""

    name: Annotated[str, Field(pattern=r"^\w+$")]
    fileFormat: str = "tfrecord"
    splits: list[SplitInfo]


def copy_folder(root: Path, task_id: str) -> Path:
    """The newest prepared version of the task's builder; MissingCopy at once when there is none."""
    builder = root / VTAB_BY_ID[task_id].builder
    versions = builder.iterdir() if builder.is_dir() else ()
    found = [version for version in versions if (version / "dataset_info.json").is_file()]
    if not found:
        raise MissingCopy(
            f"missing {builder}/<version>/dataset_info.json: no prepared copy of {task_id}; build it with build=yes "
            "(needs TensorFlow), or use source=raw or source=noah"
        )
    return max(found, key=lambda p: [int(n) if n.isdecimal() else -1 for n in p.name.split(".")])


def tfds(root: Path, task: TaskInfo) -> dict[str, Listing]:
    """Listings of the source splits, in their final order; DataError for a copy that is not whole."""
    folder = copy_folder(root, task.id)
    try:
        info = BuilderInfo.model_validate_json((folder / "dataset_info.json").read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder}/dataset_info.json is damaged ({error_text(error)}); prepare the copy again"
        ) from error
    kind, name, shards = info.fileFormat, info.name, {split.name: split.shardLengths for split in info.splits}
    if kind not in ("array_record", "tfrecord"):
        raise DataError(f"{folder} is in the format {kind}; convert it with: tfds convert_format --out_file_format "
                        "array_record")  # fmt: skip
    out = {}
    for split in SLICES[task.id].sizes:
        if not shards.get(split):
            raise DataError(f"{folder} has no split '{split}'; it has {', '.join(shards) or 'none'}")
        lengths = shards[split]
        files = [folder / f"{name}-{split}.{kind}-{i:05d}-of-{len(lengths):05d}" for i in range(len(lengths))]
        for path in files:
            need(path, f"a shard of '{split}' named in dataset_info.json")
        get = _tfrecord(files, lengths) if kind == "tfrecord" else _array_record(files, lengths)
        out[split] = Listing(sum(lengths), _example(get, task.id, f"{folder}:{split}"), None)
    return out


def _checked(path: Path, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(f"{path} has {found} examples, not {expected}; prepare the copy again")


def _tfrecord(files: list[Path], lengths: list[int]) -> Get:
    spans: list[tuple[Path, int, int]] = []
    for path, expected in zip(files, lengths, strict=True):
        here = [(path, *span) for span in records(path)]
        _checked(path, len(here), expected)
        spans += here
    return lambda i: read_example(*spans[i])


def _array_record(files: list[Path], lengths: list[int]) -> Get:
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise DataError(f"{files[0]} needs: pip install array_record") from error
    readers: list[Any] = []
    for path, expected in zip(files, lengths, strict=True):
        try:
            readers.append(ArrayRecordReader(str(path), options="readahead_buffer_size:0"))  # single records
        except (RuntimeError, ValueError) as error:
            raise DataError(f"{path} is damaged ({error}); prepare the copy again") from error
        _checked(path, readers[-1].num_records(), expected)
    starts = [0, *accumulate(lengths)]

    def get(i: int) -> Features:
        shard = int(np.searchsorted(starts, i, side="right")) - 1
        try:
            return parse_example(readers[shard].read([i - starts[shard]])[0])
        except (*DAMAGE, RuntimeError) as error:
            raise DataError(f"{files[shard]}: record {i - starts[shard]} is damaged ({error}); prepare the copy "
                            "again") from error  # fmt: skip

    return get


def _example(get: Get, task_id: str, source: str) -> Callable[[int], Example]:
    label = _LABELS.get(task_id, partial(one_int, name="label"))

    def example(i: int) -> Example:
        found, name = get(i), f"{source}[{i}]"
        try:
            image: RawImage = one_bytes(found, "image")
            if task_id.startswith("dspr"):
                image = np.asarray(to_rgb(image, name)) * 255  # stored as 0 and 1
            return Example(image, label(found), name)
        except DAMAGE as error:
            raise DataError(f"{name} is no example of {task_id} (feature {error}); prepare the copy again") from error

    return example
