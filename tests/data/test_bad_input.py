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


def close(monkeypatch: pytest.MonkeyPatch, folder: Path, function: str) -> None:
    """Let `os.<function>` refuse to list the folder: the tests may run as root, who may read everything."""
    known = getattr(os, function)

    def refuse(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return known(path)

    monkeypatch.setattr(os, function, refuse)


def test_an_unreadable_folder_is_named(raw_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = raw_root / "eurosat" / "2750"
    close(monkeypatch, root, "listdir")
    with pytest.raises(DataError, match=f"{root} cannot be read .Permission denied"):
        build(get_task("eurosat"), tmp_path, "raw", source_root=raw_root)


@pytest.mark.parametrize(
    ("line", "message"),
    [("abbey_1", "'abbey_1' is not 'name class ...'"), ("a x 1 1", "label x is not in 1 to 37"),
     ("a 38 1 1", "label 38 is not in 1 to 37"), ("../a 1 1 1", "'../a.jpg' leaves"), ("/a 1 1 1", "'/a.jpg' leaves"),
     ("link/a 1 1 1", "'link/a.jpg' leaves")],
)  # fmt: skip
def test_a_bad_line_of_the_pets_lists_is_named(tmp_path: Path, line: str, message: str) -> None:
    root = tmp_path / "oxford_iiit_pet"
    (root / "annotations").mkdir(parents=True)
    (root / "images").mkdir()
    (root / "images" / "link").symlink_to(tmp_path)
    path = root / "annotations" / "trainval.txt"
    path.write_text(f"#Image CLASS-ID\na 1 1 1\n\n{line}\n")
    with pytest.raises(DataError) as caught:
        raw(tmp_path, get_task("pets"))
    assert str(caught.value).startswith(f"{path}:4: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [("1_left", ":3: the line is cut off"), ("1_left,5", ":3: label 5 is not in 0 to 4"),
     ("../1_left,1", ":3: '../1_left.jpeg' leaves")],
)  # fmt: skip
def test_a_bad_line_of_the_retinopathy_table_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "diabetic_retinopathy_detection" / "trainLabels.csv"
    path.parent.mkdir()
    path.write_text(f"image,level\n0_left,0\n{line}\n")
    with pytest.raises(DataError) as caught:
        raw(tmp_path, get_task("retinopathy"))
    assert str(caught.value).startswith(f"{path}{message}")


def test_a_damaged_mat_file_of_flowers_is_named(tmp_path: Path) -> None:
    root = tmp_path / "oxford_flowers102"
    root.mkdir()
    for name in ("imagelabels.mat", "setid.mat"):
        (root / name).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(40))
    with pytest.raises(DataError, match=r"imagelabels.mat is damaged .*fetch it again"):
        raw(tmp_path, get_task("flowers102"))


def test_an_unreadable_subfolder_of_own_images_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "ant" / "closed"
    closed.mkdir(parents=True)
    (tmp_path / "bee").mkdir()
    close(monkeypatch, closed, "scandir")
    with pytest.raises(DataError, match=f"{closed} cannot be read .Permission denied"):
        own_images(tmp_path, 8)


FAULTS = [
    ("dtd", "dtd/dtd/labels/val1.txt", ("class00/", "nothing/"), r"val1.txt:1: 'nothing/.*' is in no class folder"),
    ("dtd", "dtd/dtd/labels/test1.txt", ("class00/", "../class00/"), r"test1.txt:1: '../class00/.*' leaves"),
    ("clevr_count", "clevr/CLEVR_v1.0/scenes/CLEVR_val_scenes.json", ('"objects"', '"things"'),
     r"CLEVR_val_scenes.json is damaged \(scenes.0.objects: Field required\); fetch it again"),
    ("clevr_dist", "clevr/CLEVR_v1.0/scenes/CLEVR_val_scenes.json", ("CLEVR_val_000000", "../CLEVR_val_000000"),
     r"scene 0: '../CLEVR_val_000000.png' leaves"),
    ("kitti_dist", "kitti/mapping/train_mapping.txt", ("2011_09_26 ", "2011_09_26"), r"mapping.txt:1: .* is not "),
    ("kitti_dist", "kitti/mapping/train_rand.txt", (",", ",9999,"), r"train_rand.txt:1: entry 2, 9999, is no line of"),
    ("kitti_dist", "kitti/mapping/train_rand.txt", (",", ",x,"), r"train_rand.txt:1: entry 2, 'x', is no number"),
    ("kitti_dist", "kitti/training/label_2/000000.txt", (" 8.0 0.1", ""), r"000000.txt:1: 'Car .*' is no labelled"),
]  # fmt: skip


@pytest.mark.parametrize(("task_id", "file", "change", "message"), FAULTS)
def test_a_fault_in_a_text_file_is_named_with_its_place(
    raw_root: Path, tmp_path: Path, task_id: str, file: str, change: tuple[str, str], message: str
) -> None:
    root = Path(file).parts[0]
    # Links to the images' folders are enough where only a list is read.
    shutil.copytree(raw_root / root, tmp_path / root, copy_function=os.link)
    path = tmp_path / file
    text = path.read_text()
    path.unlink()  # not written through the link: the archive is shared
    path.write_text(text.replace(*change, 1))
    with pytest.raises(DataError, match=message):
        listings = raw(tmp_path, get_task(task_id))
        for listing in listings.values():
            for i in range(listing.size):
                listing.get(i)


def test_a_damaged_chunk_of_an_open_file_is_its_fault_and_not_the_disks(raw_root: Path, tmp_path: Path) -> None:
    import h5py

    shutil.copytree(raw_root / "patch_camelyon", tmp_path / "patch_camelyon")
    path = tmp_path / "patch_camelyon" / "camelyonpatch_level_2_split_train_x.h5"
    with h5py.File(path) as file:
        images = file["x"][:]
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=images, chunks=(50, 96, 96, 3), compression="gzip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 5000] = bytes(5000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{path.name}\[\d+\] is damaged .*fetch it again"):
        build(get_task("camelyon"), tmp_path / "cache", "raw", source_root=tmp_path, exact=False)


def test_a_label_out_of_range_names_its_file(raw_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "oxford_flowers102"
    shutil.copytree(raw_root / "oxford_flowers102", root, copy_function=os.link)
    from scipy.io import loadmat, savemat

    path = root / "imagelabels.mat"
    labels = loadmat(path)["labels"]
    path.unlink()
    savemat(path, {"labels": labels + 1})
    with pytest.raises(DataError, match=r"image_\d+.jpg: label 102 is not in 0 to 101"):
        build(get_task("flowers102"), tmp_path / "cache", "raw", source_root=tmp_path, exact=False)


@pytest.mark.parametrize(
    ("task_id", "folder"), [("eurosat", "eurosat/2750/Class3"), ("resisc45", "resisc45/NWPU-RESISC45/class_07")]
)
def test_an_unreadable_class_folder_is_named(
    raw_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task_id: str, folder: str
) -> None:
    closed = raw_root / folder
    close(monkeypatch, closed, "scandir")
    with pytest.raises(DataError, match=f"{closed} cannot be read .Permission denied"):
        build(get_task(task_id), tmp_path, "raw", source_root=raw_root)


def test_junk_beside_the_classes_of_a_raw_archive_is_passed_over(raw_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "eurosat" / "2750"
    shutil.copytree(raw_root / "eurosat", tmp_path / "eurosat", copy_function=os.link)
    for name in (".ipynb_checkpoints/x.jpg", "__MACOSX/x.jpg", "Class3/._1.jpg", "Class3/.ipynb_checkpoints/x.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"junk")
    task = get_task("eurosat")
    assert raw(tmp_path, task)["train"].keys == raw(raw_root, task)["train"].keys
