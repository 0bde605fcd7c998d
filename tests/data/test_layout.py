"""One's own images as they lie on real disks: names like parts, lists with repeats, copies, junk, editors' marks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from data import DataError, load_own, own_images
from data.folder import OwnImages
from tests.helpers.own_images import fill
from tests.helpers.vtab_raw import save


def train_classes(own: OwnImages) -> dict[str, int]:
    """The first folder below the root and the label, of every image that is used."""
    return {path.parent.name: label for rows in own.rows.values() for path, label in rows}


@pytest.mark.parametrize("name", ["train", "Train", "training", "val", "valid", "validation", "test", "testing"])
def test_a_class_may_have_the_name_of_a_part(tmp_path: Path, name: str) -> None:
    own = own_images(fill(tmp_path, "bus", "car", name), 8)
    assert train_classes(own) == {folder: label for label, folder in enumerate(sorted(["bus", "car", name]))}
    assert sum(len(rows) for rows in own.rows.values()) == 18


UNCLEAR = {
    "images and folders": (["train", "train/ant", "train/bee"], "train holds images and folders of images (ant, bee)"),
    "classes beside": (
        ["bus", "car", "train/a", "train/b"],
        "train holds folders (a, b), and bus, car beside it images",
    ),
    "deeper classes beside": (["bus/day", "car/day", "train/a", "train/b"], "and bus, car beside it images"),
    "no images of train": (["bus", "car", "val/a", "val/b"], "val holds folders (a, b), and there is no folder train"),
    "a flat part": (["train/ant", "train/bee", "test"], "test holds images, and {root}/train beside it folders"),
    "flat parts": (["train", "test"], "test holds images and no folders, as {root}/train does"),
    "flat parts and a class": (["bus", "test", "train"], "test holds images and no folders, as {root}/train does"),
    "a lonely one": (["train"], "train holds images and no folders, and no images lie beside it"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_could_be_a_split_or_a_class_is_refused_with_what_to_do(tmp_path: Path, case: str) -> None:
    folders, message = UNCLEAR[case]
    with pytest.raises(DataError) as caught:
        own_images(fill(tmp_path, *folders), 8)
    remedies = ("split or a class. If it is a split, ", "; if it is a class, ", f"{tmp_path}/list.txt")
    for text in (message.format(root=tmp_path), *remedies):
        assert text in str(caught.value)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    root = fill(tmp_path, "ant", "bee")
    (root / "val").mkdir()
    with pytest.raises(DataError, match=f"{root}/val holds no image; delete it, or fill it: .* a split, .* a class"):
        own_images(root, 8)
    (root / "val").rename(root / "cat")
    with pytest.raises(DataError, match=f"class folder {root}/cat holds no image; fill it, or delete it"):
        own_images(root, 8)
    (root / "cat" / "cat.xml").write_text("<cat/>")
    with pytest.raises(DataError, match="cat holds no image but cat.xml"):
        own_images(root, 8)


def test_a_class_that_the_draw_leaves_without_training_images_is_named(tmp_path: Path) -> None:
    fill(fill(tmp_path, "ant"), "bee", count=1)
    with pytest.raises(DataError, match=f"class {tmp_path}/bee has no training image in .*; give it more images"):
        own_images(tmp_path, 8, 1, 1, 5)


def test_images_that_lie_in_no_class_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(fill(tmp_path, "ant", "bee") / "cover.png")
    assert sum(own_images(tmp_path, 8).info.split_sizes[s] for s in ("train800", "val200", "test")) == 12
    assert f"1 images lie in no folder of {tmp_path} and are left out, the first is {tmp_path}/cover.png" in caplog.text


def test_two_parts_leave_no_doubt_about_what_lies_beside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    own = own_images(fill(tmp_path, "train/ant", "train/bee", "test/ant", "test/bee", "unlabelled"), 8)
    assert train_classes(own) == {"ant": 0, "bee": 1} and "left out beside them: unlabelled" in caplog.text


def listed(root: Path, **lists: str) -> Path:
    fill(root, "x", count=20)
    for name, text in lists.items():
        (root / f"{name}.txt").write_text(text)
    return root


LINES = "".join(f"x/{i}.png {i % 2}\n" for i in range(14))


def test_repeats_in_a_list_are_dropped_before_the_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = listed(tmp_path, list=LINES + "./x/3.png 1\nx/../x/4.png 0\nx/link.png 1\n")
    os.symlink("5.png", root / "x" / "link.png")
    own = own_images(root, 8)
    files = [path.resolve() for rows in own.rows.values() for path, _ in rows]
    assert len(files) == len(set(files)) == 14
    assert f"{root}: 3 repeats are dropped, the first is {root}/list.txt:15" in caplog.text


def test_contradictions_and_overlap_are_refused_with_both_lines(tmp_path: Path) -> None:
    root = listed(tmp_path / "a", list=LINES + "x/3.png 0\n")
    with pytest.raises(DataError, match="list.txt:4 and .*list.txt:15 give one image two labels, 1 and 0: .*x/3.png"):
        own_images(root, 8)
    root = listed(tmp_path / "b", train=LINES, test="x/19.png 1\nx/13.png 1\nx/2.png 0\n", val="x/18.png 0\n")
    with pytest.raises(
        DataError, match=r"train and test share 2 images, .*x/13.png \(.*train.txt:14 and .*test.txt:2\)"
    ):
        own_images(root, 8)
    root = fill(tmp_path / "c", "ant", "bee")  # a link is the image it leads to
    os.symlink(root / "ant" / "1.png", root / "bee" / "link.png")
    with pytest.raises(DataError, match="ant/1.png and .*bee/link.png give one image two labels"):
        own_images(root, 8)


def test_copies_under_other_names_are_counted_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = fill(tmp_path / "set", *(f"{part}/{name}" for part in ("train", "val", "test") for name in ("ant", "bee")))
    for source, *targets in (("train/ant/0", "train/ant/9"), ("train/ant/1", "train/bee/9"),
                             ("train/bee/2", "test/bee/9", "test/bee/8")):  # fmt: skip
        for target in targets:
            shutil.copy(root / f"{source}.png", root / f"{target}.png")
    own = own_images(root, 8)
    load_own(own, "train800val200", tmp_path)
    messages = [record.getMessage() for record in caplog.records if "content of another" in record.getMessage()]
    assert len(messages) == 1 and "set: 4 images have the content of another under a second name" in messages[0]
    assert "1 have more than one label and 1 lie in more than one of train, val and test" in messages[0]
    load_own(own, "train800", tmp_path)
    load_own(own, "test", tmp_path)
    assert caplog.text.count("content of another") == 1


JUNK = ("__MACOSX/._1.jpg", "__MACOSX/ant/._1.jpg", ".ipynb_checkpoints/1-checkpoint.png", "ant/.DS_Store",
        "ant/.ipynb_checkpoints/1-checkpoint.png", "ant/Thumbs.db", "bee/desktop.ini", "bee/@eaDir/1.png", "Thumbs.db",
        "bee/._1.png", "$RECYCLE.BIN/1.png")  # fmt: skip


@pytest.mark.parametrize("parts", [(".",), ("train", "test")])
def test_junk_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture, parts: tuple[str, ...]) -> None:
    fill(tmp_path, *(f"{part}/{name}" for part in parts for name in ("ant", "bee")))
    outside = [name for name in JUNK if not name.startswith(("ant", "bee"))]
    for name in [f"{part}/{name}" for part in parts for name in JUNK] + outside:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"junk")
    own = own_images(tmp_path, 8)
    assert train_classes(own) == {"ant": 0, "bee": 1} and not caplog.text
    assert sum(len(rows) for rows in own.rows.values()) == 12 * len(parts)


def test_a_list_may_begin_with_an_editors_mark(tmp_path: Path) -> None:
    root = listed(tmp_path)
    (root / "list.txt").write_text(LINES, encoding="utf-8-sig")
    assert root / "x" / "0.png" in {path for rows in own_images(root, 8).rows.values() for path, _ in rows}
    (root / "list.txt").write_text(LINES, encoding="utf-16")
    own_images.cache_clear()
    with pytest.raises(DataError, match=r"list.txt is not UTF-8 text \(byte 0 is 0xff\); save it as UTF-8"):
        own_images(root, 8)
