"""The VTAB tasks by the names that other code has for them: one run, whichever is typed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from data import ALIASES, SUITES, TASKS, DataError, Split, TaskInfo, get_task, register_task
from runner.config.preparation import PrepareConf, read_preparations
from tests.helpers.commands import forked
from tests.helpers.composing import composed, resolved

OFFICIAL = {
    "cifar100": "cifar", "caltech101": "caltech101", "dtd": "dtd", "flowers102": "oxford_flowers102",
    "pets": "oxford_iiit_pet", "svhn": "svhn", "sun397": "sun397", "camelyon": "patch_camelyon", "eurosat": "eurosat",
    "resisc45": "resisc45", "retinopathy": "diabetic_retinopathy",
    "clevr_count": "clevr_count clevr-count clevr_count_all",
    "clevr_dist": "clevr_dist clevr_distance clevr_closest_object_distance", "dmlab": "dmlab",
    "kitti_dist": "kitti kitti_distance", "dspr_loc": "dsprites_loc dsprites_location dsprites_label_x_position",
    "dspr_ori": "dsprites_ori dsprites_orientation", "snorb_azim": "smallnorb_azi smallnorb_azimuth",
    "snorb_ele": "smallnorb_ele smallnorb_elevation",
}  # fmt: skip
"""The names of google-research/task_adaptation and of the folders of the public archive, by our id."""


def test_the_library_knows_the_names_of_the_official_code_and_of_the_archive() -> None:
    assert list(OFFICIAL) == list(SUITES["vtab"])
    for task_id, names in OFFICIAL.items():
        assert all(get_task(name) is TASKS[task_id] for name in names.split())


def test_no_other_name_is_an_id_or_a_suite() -> None:
    assert not set(ALIASES) & {*TASKS, *SUITES} and set(ALIASES.values()) <= set(SUITES["vtab"])


@pytest.mark.parametrize("task_id", sorted(set(ALIASES.values())))
def test_a_run_has_one_directory_whatever_its_task_is_called(task_id: str) -> None:
    names = [task_id, *(name for name, known in ALIASES.items() if known == task_id)]
    tiny = ["backbone=vit_micro", "device=cpu"]
    directories = {resolved(f"dataset={names[0]}", *tiny).directory} | {
        resolved(f"dataset={task_id}", f"dataset.id={name}", *tiny).directory for name in names[1:]
    }
    (directory,) = directories
    assert directory.parent.name == task_id
    for name in names[1:]:
        assert composed(f"dataset={name}").dataset == composed(f"dataset={task_id}").dataset


def test_prepare_takes_them_too(tmp_path: Path) -> None:
    config = composed("dataset=smallnorb_azi", f"data_root={tmp_path}", config="prepare", keys=PrepareConf)
    assert [one.task for one in read_preparations(config, ())] == ["snorb_azim"]
    done = forked(["prepare.py", "dataset=cifar,kitti,cifar100", "download=no", f"data_root={tmp_path}"])
    assert done.returncode == 1
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["cifar100", "kitti_dist"]


def test_a_new_task_cannot_take_one() -> None:
    def load(split: str, root: Path) -> Split:
        return Split(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64), "")

    with pytest.raises(ValueError, match="'kitti' is taken"):
        register_task(TaskInfo("kitti", "KITTI", "structured", "own", 2, {}, 8), load)
    with pytest.raises(DataError, match="unknown dataset 'kitty'"):
        get_task("kitty")
