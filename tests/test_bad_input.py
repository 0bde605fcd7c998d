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
