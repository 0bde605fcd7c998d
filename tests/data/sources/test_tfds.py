"""source=tfds on prepared copies in both formats against source=raw and against tensorflow-datasets' own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets

from data import DataError, get_task
from data.images import prepare_image
from data.labels import kitti_distance
from data.order import hash_order
from data.sources.raw import raw
from data.sources.tfds import copy_folder, tfds
from tests.helpers import ROOT
from tests.helpers.vtab_raw import image_array
from tests.helpers.vtab_tfds import (
    BUILDERS,
    Row,
    as_tfrecord,
    assert_same,
    clevr_row,
    dsprites_row,
    kitti_row,
    masked_crc,
    png,
    simple_row,
    smallnorb_row,
    tfds_copy,
)

ROWS = {"clevr": clevr_row, "kitti": kitti_row, "dsprites": dsprites_row, "smallnorb": smallnorb_row}
SYNTHETIC = {"caltech101": ("train", "test"), "sun397/tfds": ("train", "validation", "test"),
             "diabetic_retinopathy_detection/btgraham-300": ("train", "validation", "test")}  # fmt: skip
"""Builders without a small raw archive here, or with a slow one: their examples are made up below."""


def copy_of_raw(raw_root: Path, root: Path, builder: str) -> Path:
    task_id = BUILDERS[builder][0]
    listings, row = raw(raw_root, get_task(task_id)), ROWS.get(builder, simple_row)

    def example(split: str, i: int) -> tuple[str | int, Row]:
        keys = listings[split].keys
        assert keys is not None
        return keys[i], row(i, listings[split].get(i))

    return tfds_copy(root, task_id, {s: x.size for s, x in listings.items()}, example)


@pytest.mark.parametrize("builder", [b for b in BUILDERS if b not in SYNTHETIC])
def test_both_formats_and_raw_give_the_same_images_and_labels_in_the_same_order(
    raw_root: Path, tmp_path: Path, builder: str
) -> None:
    folder = copy_of_raw(raw_root, tmp_path, builder)
    for task_id in BUILDERS[builder]:
        assert_same(raw(raw_root, get_task(task_id)), tfds(tmp_path, get_task(task_id)), task_id)
    as_tfrecord(folder)
    for task_id in BUILDERS[builder]:
        assert_same(raw(raw_root, get_task(task_id)), tfds(tmp_path, get_task(task_id)), task_id)


@pytest.mark.parametrize("builder", SYNTHETIC)
def test_builders_without_raw_files_are_read_in_the_order_of_their_keys(tmp_path: Path, builder: str) -> None:
    task = get_task(BUILDERS[builder][0])
    sizes = {"train": 2100 if task.id == "caltech101" else 820, "validation": 210, "test": 30}
    sizes = {split: sizes[split] for split in SYNTHETIC[builder]}
    keys = {split: [f"{split}/image_{i:05d}" for i in range(n)] for split, n in sizes.items()}

    def example(split: str, i: int) -> tuple[str, Row]:
        return keys[split][i], {"image": png(np.full((3, 3, 3), i % 256, np.uint8)), "label": i % task.num_classes}

    folder = tfds_copy(tmp_path, task.id, sizes, example)
    for convert in (False, True):
        if convert:
            as_tfrecord(folder, shards=3)
        listings = tfds(tmp_path, task)
        for split, names in keys.items():
            order = hash_order(split, names)
            found = [listings[split].get(i) for i in range(sizes[split])]
            assert [e.label for e in found] == [i % task.num_classes for i in order]
            pixels = [prepare_image(e.image, e.name, 1)[0, 0, 0] for e in found]
            assert pixels == [i % 256 for i in order]


def test_our_reader_agrees_with_tensorflow_datasets_own(raw_root: Path, tmp_path: Path) -> None:
    folder = copy_of_raw(raw_root, tmp_path, "kitti")
    theirs = tensorflow_datasets.builder_from_directory(str(folder)).as_data_source("test")
    ours = tfds(tmp_path, get_task("kitti_dist"))["test"]
    assert ours.size == len(theirs) > 200
    for i in range(ours.size):
        row, e = theirs[i], ours.get(i)
        assert np.array_equal(prepare_image(e.image, "", 16), prepare_image(row["image"], "", 16))
        objects = row["objects"]
        locations = zip(objects["type"], objects["location"], strict=True)
        assert e.label == kitti_distance(float(location[2]) for kind, location in locations if kind < 3)


def test_an_image_without_objects_is_the_class_of_no_vehicle(tmp_path: Path) -> None:
    sizes = {"train": 810, "validation": 205, "test": 5}
    row = {"image": png(image_array((4, 8))), "objects": []}
    tfds_copy(tmp_path, "kitti_dist", sizes, lambda split, i: (f"{i:06d}.png", {**row, "image": png(image_array(4))}))
    assert {tfds(tmp_path, get_task("kitti_dist"))["test"].get(i).label for i in range(5)} == {3}


def test_a_damaged_copy_is_named(raw_root: Path, tmp_path: Path) -> None:
    folder, task = copy_of_raw(raw_root, tmp_path, "dtd"), get_task("dtd")
    assert masked_crc(bytes(32)) == (((0x8A9136AA >> 15 | 0x8A9136AA << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(
        4, "little")  # the test vector of RFC 3720  # fmt: skip
    shard = next(folder.glob("*-test.array_record-*"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=shard.name):
        listing = tfds(tmp_path, task)["test"]
        for i in range(listing.size):
            listing.get(i)
    shard.write_bytes(whole)
    as_tfrecord(folder)
    shard = folder / "dtd-test.tfrecord-00001-of-00002"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-7])
    with pytest.raises(DataError, match=f"{shard.name} is cut off"):
        tfds(tmp_path, task)
    first = 16 + int.from_bytes(whole[:8], "little")
    shard.write_bytes(whole[first:])
    with pytest.raises(DataError, match=f"{shard.name} has 23 examples, not 24"):
        tfds(tmp_path, task)
    shard.write_bytes(whole[:12] + b"\xff" * 8 + whole[20:])
    listing = tfds(tmp_path, task)["test"]
    with pytest.raises(DataError, match="record at byte 12 is damaged"):
        for i in range(listing.size):
            listing.get(i)
    shard.unlink()
    with pytest.raises(DataError, match=f"missing .*{shard.name}"):
        tfds(tmp_path, task)
    (folder / "dataset_info.json").write_text(json.dumps({"name": "dtd", "fileFormat": "riegeli", "splits": []}))
    with pytest.raises(DataError, match="format riegeli; convert"):
        tfds(tmp_path, task)
    (folder / "dataset_info.json").write_text("{")
    with pytest.raises(DataError, match="dataset_info.json is damaged"):
        tfds(tmp_path, task)


def test_the_newest_version_is_taken_by_number(tmp_path: Path) -> None:
    for version in ("3.9.0", "3.10.0"):
        (tmp_path / "dtd" / version).mkdir(parents=True)
        (tmp_path / "dtd" / version / "dataset_info.json").touch()
    assert copy_folder(tmp_path, "dtd").name == "3.10.0"


def test_a_missing_copy_is_an_error_at_once(tmp_path: Path) -> None:
    for build_it, message in (("", "no prepared copy of dtd"), ("yes", "pip install -e '.[data,tfds-build]'")):
        # TensorFlow is hidden where it is installed: what is under test is its absence.
        code = "import sys, time; sys.modules['tensorflow'] = None; import importlib.util as u; find = u.find_spec; "
        code += "u.find_spec = lambda n, *a: None if n == 'tensorflow' else find(n, *a); "
        code += "from runner.config.preparation import Preparation; from runner.stages.prepare import prepare; "
        code += (
            "wanted = Preparation('dtd', sys.argv[1], 'tfds', None, 'raw', 'bicubic', 'auto', bool(sys.argv[2]), 224); "
        )
        code += (
            "began = time.monotonic(); ready = prepare(wanted); print(time.monotonic() - began); sys.exit(not ready)"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path), build_it], cwd=ROOT, text=True,
                              capture_output=True)  # fmt: skip
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
        assert float(done.stdout.splitlines()[-1]) < 1  # a promise of the command, not its speed
