"""What a user's disk may hold instead of what it should: every case is one DataError that names the place."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from data import DataError, get_task
from data.build import build
from data.folder import own_images
from data.sources.raw import raw


@pytest.mark.parametrize(
    ("task_id", "module", "package"),
    [("svhn", "scipy.io", "scipy"), ("flowers102", "scipy.io", "scipy"), ("dspr_loc", "h5py", "h5py"),
     ("camelyon", "h5py", "h5py")],
)  # fmt: skip
def test_a_missing_package_is_named(
    raw_root: Path, monkeypatch: pytest.MonkeyPatch, task_id: str, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"needs {package}: pip install -e '.\[data\]'"):
        raw(raw_root, get_task(task_id))


def test_a_wrong_number_of_class_folders_is_named(raw_root: Path, tmp_path: Path) -> None:
    shutil.copytree(raw_root / "dtd", tmp_path / "dtd")
    shutil.rmtree(tmp_path / "dtd" / "dtd" / "images" / "class46")
    with pytest.raises(DataError, match=f"{tmp_path}/dtd/dtd/images has 46 class folders, not 47"):
        raw(tmp_path, get_task("dtd"))


def test_an_unreadable_folder_is_named(raw_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, listdir = raw_root / "eurosat" / "2750", os.listdir

    def refuse(path: Any) -> list[str]:
        if Path(path) == home:
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)  # the tests may run as root, who may read everything
    with pytest.raises(DataError, match=f"{home} cannot be read .Permission denied"):
        build(get_task("eurosat"), tmp_path, "raw", source_root=raw_root)


@pytest.mark.parametrize(
    ("line", "said"),
    [("abbey_1", "'abbey_1' is not 'name class ...'"), ("a x 1 1", "label x is not in 1 to 37"),
     ("a 38 1 1", "label 38 is not in 1 to 37"), ("../a 1 1 1", "'../a.jpg' leaves"), ("/a 1 1 1", "'/a.jpg' leaves"),
     ("link/a 1 1 1", "'link/a.jpg' leaves")],
)  # fmt: skip
def test_a_bad_line_of_the_pets_lists_is_named(tmp_path: Path, line: str, said: str) -> None:
    home = tmp_path / "oxford_iiit_pet"
    (home / "annotations").mkdir(parents=True)
    (home / "images").mkdir()
    (home / "images" / "link").symlink_to(tmp_path)
    path = home / "annotations" / "trainval.txt"
    path.write_text(f"#Image CLASS-ID\na 1 1 1\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        raw(tmp_path, get_task("pets"))
    assert str(caught.value).startswith(f"{path}:4: {said}")


@pytest.mark.parametrize(
    ("line", "said"),
    [("1_left", ":3: the line is cut off"), ("1_left,5", ":3: label 5 is not in 0 to 4"),
     ("../1_left,1", ":3: '../1_left.jpeg' leaves")],
)  # fmt: skip
def test_a_bad_line_of_the_retinopathy_table_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "diabetic_retinopathy_detection" / "trainLabels.csv"
    path.parent.mkdir()
    path.write_text(f"image,level\n0_left,0\n{line}\n")
    with pytest.raises(DataError) as caught:
        raw(tmp_path, get_task("retinopathy"))
    assert str(caught.value).startswith(f"{path}{said}")


def test_a_damaged_mat_file_of_flowers_is_named(tmp_path: Path) -> None:
    home = tmp_path / "oxford_flowers102"
    home.mkdir()
    for name in ("imagelabels.mat", "setid.mat"):
        (home / name).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(40))
    with pytest.raises(DataError, match=r"imagelabels.mat is damaged .*fetch it again"):
        raw(tmp_path, get_task("flowers102"))


def test_an_unreadable_subfolder_of_own_images_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, scandir = tmp_path / "ant" / "closed", os.scandir
    closed.mkdir(parents=True)
    (tmp_path / "bee").mkdir()

    def refuse(path: Any = ".") -> Any:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=f"{closed} cannot be read .Permission denied"):
        own_images(tmp_path, 8)
