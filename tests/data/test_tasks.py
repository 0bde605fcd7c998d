"""The task tables, the look-ups' messages, and what happens to VTAB tasks that are not prepared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from data import SPLITS, SUITES, TASKS, DataError, default_data_root, get_task, load_split
from data.build import split_path, variant
from data.cache import write_split
from data.status import status_lines


def test_suites_and_groups() -> None:
    assert [len(SUITES[name]) for name in ("vtab", "natural", "specialized", "structured", "mini")] == [19, 7, 4, 8, 6]
    assert SUITES["vtab"] == SUITES["natural"] + SUITES["specialized"] + SUITES["structured"]
    assert list(TASKS) == [t for s in ("vtab", "mini", "few_shot", "domain_generalization") for t in SUITES[s]]
    assert SUITES["vtab"][0] == "cifar100" and SUITES["vtab"][-1] == "snorb_ele"
    for task_id, task in TASKS.items():
        assert task.id == task_id
        assert task.group in ("natural", "specialized", "structured") or task.group == task.suite
        if task.suite in ("few_shot", "domain_generalization"):
            continue
        assert tuple(task.split_sizes) == SPLITS
        assert (task.split_sizes["train800"], task.split_sizes["val200"], task.split_sizes["train800val200"]) == (
            800, 200, 1000)  # fmt: skip


@pytest.mark.parametrize(
    ("task_id", "classes", "test"),
    [("caltech101", 102, 6084), ("sun397", 397, 21750), ("retinopathy", 5, 42670), ("kitti_dist", 4, 711),
     ("dspr_ori", 16, 73728), ("snorb_azim", 18, 12150), ("clevr_dist", 6, 15000)],
)  # fmt: skip
def test_vtab_golden_counts(task_id: str, classes: int, test: int) -> None:
    task = get_task(task_id)
    assert (task.num_classes, task.split_sizes["test"], task.image_size) == (classes, test, 224)


def test_vtab_totals() -> None:
    tasks = [TASKS[task_id] for task_id in SUITES["vtab"]]
    assert sum(task.num_classes for task in tasks) == 940
    assert sum(task.split_sizes["test"] for task in tasks) == 387904


def test_tasks_are_read_only() -> None:
    with pytest.raises(TypeError):
        get_task("dtd").split_sizes["test"] = 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("digit", "digits"), ("shapes-count", "shapes_count"), ("smallnorb_azim", "snorb_azim"), ("cifar10", "cifar100"),
     ("DTD", "dtd")],
)  # fmt: skip
def test_unknown_task_suggests(name: str, expected: str) -> None:
    with pytest.raises(DataError) as caught:
        get_task(name)
    assert f"Did you mean {expected}" in str(caught.value) and "shapes_distance" in str(caught.value)


def test_suite_is_not_a_task() -> None:
    with pytest.raises(DataError, match="sweep=mini"):
        get_task("mini")


def test_unknown_split_and_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train800val200"):
        load_split("digits", "train", data_root=tmp_path)
    with pytest.raises(DataError, match="raw, tfds, noah"):
        load_split("dtd", "test", data_root=tmp_path, source="kaggle")
    with pytest.raises(DataError, match="no source"):
        load_split("digits", "test", data_root=tmp_path, source="raw")


def test_missing_vtab_names_everything(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_split("dspr_loc", "test", data_root=tmp_path)
    for part in ("dspr_loc", str(tmp_path), "python prepare.py dataset=dspr_loc", "vtab/dspr_loc", "sweep=mini"):
        assert part in str(caught.value)


def place_vtab(root: Path, split: str, count: int, source: str = "raw", label: int | None = None) -> Path:
    """A prepared file of dtd with one grey value per image, so that it is easily recognised."""

    def get(i: int) -> tuple[np.ndarray, int]:
        return np.full((3, 224, 224), i % 256, np.uint8), i % 47 if label is None else label

    path = split_path("dtd", split, root, variant(source, "raw", "bicubic"))
    info = {"source": source, "codec": "raw", "resize": "bicubic"}
    path.with_suffix(".json").unlink(missing_ok=True)  # what is whole is not written again
    write_split(path, count, 224, get, info, 1000)
    return path


def test_prepared_vtab_is_read(tmp_path: Path) -> None:
    place_vtab(tmp_path, "val200", 200)
    split = load_split("dtd", "val200", data_root=str(tmp_path), source="raw")
    assert split.images.shape == (200, 3, 224, 224) and split.images.dtype == torch.uint8
    assert split.images[7].unique().tolist() == [7] and split.labels[48] == 1
    assert split.labels.dtype == torch.int64 and len(split.content_hash) == 64 and split.source == "raw"
    with pytest.raises(DataError, match="not prepared from source=noah"):
        load_split("dtd", "val200", data_root=tmp_path, source="noah")
    with pytest.raises(DataError, match="not prepared"):  # train800 is still missing
        load_split("dtd", "train800val200", data_root=tmp_path)
    place_vtab(tmp_path, "train800", 800)
    both = load_split("dtd", "train800val200", data_root=tmp_path)
    assert both.images[:, 0, 0, 0].tolist() == [i % 256 for i in [*range(800), *range(200)]]
    place_vtab(tmp_path, "val200", 200, "noah")
    with pytest.raises(DataError, match="from raw and noah; say which"):
        load_split("dtd", "val200", data_root=tmp_path)
    with pytest.raises(DataError, match="codec=jpeg75"):
        load_split("dtd", "val200", data_root=tmp_path, codec="jpeg75")


def test_wrong_vtab_files_are_refused(tmp_path: Path) -> None:
    path = place_vtab(tmp_path, "val200", 199)
    with pytest.raises(DataError, match="has 199 images"):
        load_split("dtd", "val200", data_root=tmp_path)
    place_vtab(tmp_path, "val200", 200, label=47)
    with pytest.raises(DataError, match="47 classes"):
        load_split("dtd", "val200", data_root=tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="cannot be read.*make it anew"):
        load_split("dtd", "val200", data_root=tmp_path)
    with pytest.raises(DataError, match="label 47 of image 0"):
        write_split(path, 200, 8, lambda i: (np.zeros((3, 8, 8), np.uint8), 47), {}, 47)


def test_a_full_disk_is_one_clear_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(DataError, match="No space left on device.*GB are needed"):
        place_vtab(tmp_path, "val200", 200)
    assert [p.suffix for p in tmp_path.rglob("*") if p.is_file()] == [".lock"]


def test_default_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLORA_DATA", "~/elsewhere")
    assert default_data_root() == Path.home() / "elsewhere"
    monkeypatch.setenv("GLORA_DATA", "")
    assert default_data_root() == Path.home() / ".cache" / "glora"


def test_a_home_that_is_not_known_is_one_clear_error() -> None:
    with pytest.raises(
        DataError, match="data_root=~no-such-user/data: no home folder is known for this ~; write the who"
    ):
        load_split("digits", "test", data_root="~no-such-user/data")


def test_the_status_follows_source_files_and_cache(tmp_path: Path) -> None:
    def line(task_id: str, source: str = "raw") -> str:
        (found,) = (x for x in status_lines(tmp_path, source) if x.split()[0] == task_id)
        return found

    assert "1.58 GB to download and build with build=yes" in line("svhn", "tfds")
    assert f"manual   put into {tmp_path}/tfds/downloads/manual: NWPU" in line("resisc45", "tfds")
    assert f"manual   put the folder cifar of the vtab-1k archive into {tmp_path}/vtab-1k" in line("cifar100", "noah")
    (tmp_path / "vtab-1k" / "cifar100").mkdir(parents=True)
    assert "missing  nothing to fetch: python prepare.py dataset=cifar100 source=noah" in line("cifar100", "noah")
    assert "manual   no source=raw" in line("caltech101")
    folder = tmp_path / "raw" / "diabetic_retinopathy_detection"
    (folder / "train").mkdir(parents=True)
    assert f"manual   put test, trainLabels.csv into {folder}: Kaggle" in line("retinopathy")
    (folder / "test").mkdir()
    (folder / "trainLabels.csv").touch()
    assert "missing  0.00 GB to download" in line("retinopathy")
    place_vtab(tmp_path, "val200", 200)
    assert "partly   0.03 GB from source=raw: only val200; for the rest: 0.63 GB to download" in line("dtd")
    place_vtab(tmp_path, "train800", 3)
    place_vtab(tmp_path, "test", 3)
    assert line("dtd").endswith("ready    0.03 GB from source=raw")
