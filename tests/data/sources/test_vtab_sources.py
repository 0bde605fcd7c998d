"""The three sources of VTAB tasks and the cache, on real file formats."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data import DataError, get_task
from data.base import STORED_SPLITS
from data.build import build, select, split_path, variant
from data.cache import read_split
from data.images import prepare_image
from data.order import member_range
from data.sources.noah import OTHER_SPELLINGS, noah
from data.sources.raw import READERS, raw, raw_folder
from data.sources.records import example_parser
from data.vtab_table import VTAB_ROWS
from tests.helpers.vtab_raw import sun397, write_noah


@pytest.mark.parametrize("task_id", [t for t in READERS if t != "sun397"])
def test_raw_gives_what_the_order_rule_says(raw_root: Path, task_id: str) -> None:
    task = get_task(task_id)
    with pytest.raises(DataError, match="has .* examples, not"):
        select(task, raw(raw_root, task))
    chosen = select(task, raw(raw_root, task), exact=False)
    assert len(chosen["train800"][1]) == 800 and len(chosen["val200"][1]) == 200
    for split, (listing, order) in chosen.items():
        source, members = member_range(task_id, split, {s: x.size for s, x in raw(raw_root, task).items()})
        assert listing.keys is not None
        expected = sorted(listing.keys, key=lambda key, s=source: int(__import__("hashlib").md5(
            f"{s}{key}".encode()).hexdigest(), 16))  # fmt: skip
        assert [listing.keys[i] for i in order] == [expected[i] for i in members]
        example = listing.get(order[0])
        assert 0 <= example.label < task.num_classes
        assert prepare_image(example.image, example.name, 32).shape == (3, 32, 32)


def test_raw_labels_come_from_the_right_field(raw_root: Path) -> None:
    def labels(task_id: str, split: str = "train") -> list[int]:
        listing = raw(raw_root, get_task(task_id))[split]
        return [listing.get(i).label for i in range(100)]

    assert labels("cifar100") == list(range(100))
    assert labels("svhn")[:11] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert labels("snorb_azim")[:19] == [*range(18), 0] and labels("snorb_ele")[:10] == [*range(9), 0]
    assert labels("clevr_count")[:9] == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    assert labels("clevr_dist")[:7] == [0, 1, 1, 2, 3, 4, 5]
    assert labels("camelyon")[:3] == [0, 1, 0]


def test_records_without_the_package_that_reads_them_are_one_clear_message(
    raw_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets.proto", None)
    example_parser.cache_clear()
    with pytest.raises(DataError, match="pip install tensorflow-datasets"):
        raw(raw_root, get_task("dmlab"))
    assert raw(raw_root, get_task("cifar100"))["train"].get(0).label == 0


def test_dsprites_pixels_are_black_and_white(raw_root: Path) -> None:
    image = raw(raw_root, get_task("dspr_loc"))["train"].get(0).image
    assert isinstance(image, np.ndarray) and set(np.unique(image)) == {0, 255}


def test_refused_raw_tasks_say_why() -> None:
    with pytest.raises(DataError, match="source=noah or source=tfds"):
        raw(Path("/nowhere"), get_task("caltech101"))


@pytest.mark.parametrize(
    ("task_id", "file", "message"),
    [("cifar100", "cifar-100-binary/train.bin", "multiple of 3074"), ("svhn", "train_32x32.mat", "damaged"),
     ("dspr_loc", "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.hdf5", "damaged"),
     ("snorb_ele", "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz", "damaged"),
     ("clevr_count", "CLEVR_v1.0/scenes/CLEVR_train_scenes.json", "damaged"),
     ("dmlab", "dmlab-train.tfrecord-00000-of-00002", "cut off")],
)  # fmt: skip
def test_damaged_and_missing_raw_files_are_named(
    raw_root: Path, tmp_path: Path, task_id: str, file: str, message: str
) -> None:
    task = get_task(task_id)
    shutil.copytree(raw_folder(raw_root, task_id), raw_folder(tmp_path, task_id))
    path = raw_folder(tmp_path, task_id) / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=message) as caught:
        raw(tmp_path, task)
    assert path.name in str(caught.value)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        for sibling in path.parent.glob("dmlab-train*"):
            sibling.unlink()
        raw(tmp_path, task)


SPELLINGS = [(row.id, name) for row in VTAB_ROWS
             for name in filter(None, (row.noah_folder, OTHER_SPELLINGS.get(row.noah_folder)))]  # fmt: skip


@pytest.mark.parametrize(("task_id", "folder"), SPELLINGS)
def test_noah_gives_the_multiset_of_labels_that_raw_gives(
    raw_root: Path, tmp_path: Path, task_id: str, folder: str
) -> None:
    task, labels = get_task(task_id), None
    if task_id in READERS and task_id not in ("sun397", "retinopathy"):  # no small raw archive here, or a slow one
        chosen = select(task, raw(raw_root, task), exact=False)
        # Written in another order, as the real folder is.
        labels = {s: sorted(listing.get(i).label for i in order) for s, (listing, order) in chosen.items()}
    write_noah(tmp_path, task_id, folder, test=30, labels=labels)
    small = {**task.split_sizes, "test": len(labels["test"]) if labels else 30}
    listings = noah(tmp_path, replace(task, split_sizes=small))
    for split in STORED_SPLITS:
        found = sorted(listings[split].get(i).label for i in range(listings[split].size))
        expected = labels[split] if labels else sorted(i % task.num_classes for i in range(small[split]))
        assert found == expected


def test_noah_folder_both_spellings_and_its_checks(tmp_path: Path) -> None:
    task = get_task("kitti_dist")
    root = write_noah(tmp_path, "kitti_dist", "kitti")
    chosen = select(task, noah(tmp_path, task))
    assert Counter(chosen["val200"][0].get(i).label for i in chosen["val200"][1]) == {0: 50, 1: 50, 2: 50, 3: 50}
    write_noah(tmp_path, "pets", "oxford_pet", test=1)
    with pytest.raises(DataError, match=r"oxford_pet/test.txt has 1 lines"):
        noah(tmp_path, get_task("pets"))
    with pytest.raises(DataError, match="vtab-1k"):
        noah(tmp_path, get_task("dtd"))
    text = (root / "val200.txt").read_text()
    for old, new, message in (
        ("images/val200/000003.jpg 3", "../secret.jpg 3", r"val200.txt:4: .* leaves"),
        ("images/val200/000003.jpg 3", "/etc/passwd 3", r"val200.txt:4: .* leaves"),
        ("images/val200/000003.jpg 3", "images/val200/000003.jpg 4", r"val200.txt:4: label 4 is not in 0 to 3"),
        ("images/val200/000003.jpg 3", "images/val200/000003.jpg", r"val200.txt:4: .* is not 'path label'"),
        ("images/val200/000003.jpg 3", "images/val200/000003.jpg 2", "are not those of train800val200"),
        ("images/val200/000003.jpg 3", "images/val200/gone.jpg 3", r"missing .*gone.jpg, named in .*val200.txt:4"),
    ):
        (root / "val200.txt").write_text(text.replace(old, new))
        with pytest.raises(DataError, match=message):
            noah(tmp_path, task)


def test_build_resumes_and_repairs_what_is_damaged(tmp_path: Path) -> None:
    write_noah(tmp_path / "vtab-1k", "kitti_dist", "kitti")
    task = get_task("kitti_dist")
    assert build(task, tmp_path, "noah") and not build(task, tmp_path, "noah")
    path = split_path("kitti_dist", "val200", tmp_path, variant("noah", "raw", "bicubic"))
    split = read_split(path, "")
    assert split.images.shape == (200, 3, 224, 224) and split.source == "noah"
    with path.open("r+b") as stream:
        stream.seek(-5, 2)
        stream.write(b"\x01\x02")
    with pytest.raises(DataError, match="content hash"):
        read_split(path, "")
    assert build(task, tmp_path, "noah")
    assert read_split(path, "").content_hash == split.content_hash
    assert not list(tmp_path.rglob("*.part"))
    file = tmp_path / "vtab-1k" / "kitti" / "images" / "val200" / "000150.jpg"
    file.write_bytes(file.read_bytes()[:100])
    path.with_suffix(".json").unlink()
    with pytest.raises(DataError, match="000150.jpg is not a whole image"):
        build(task, tmp_path, "noah")


def test_sun397_is_built_from_named_files(tmp_path: Path) -> None:
    sun397(tmp_path / "sun397")
    task = get_task("sun397")
    chosen = select(task, raw(tmp_path, task))
    listing, order = chosen["train800"]
    assert [listing.get(i).label for i in order[:5]] == [307, 358, 48, 337, 2]
