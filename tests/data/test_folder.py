"""One's own images: layouts, splits, mistakes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import DataError, load_own, own_images
from tests.helpers.own_images import class_folders
from tests.helpers.vtab_raw import image_array, save


def test_class_folders_are_split_seeded_and_balanced(tmp_path: Path) -> None:
    own = own_images(class_folders(tmp_path / "My Insects"), 32, 45, 15, 30)
    assert own.classes == ("ant", "bee", "cat")
    assert own.info.id.startswith("folder-my-insects-") and own.info.num_classes == 3
    assert own.info.split_sizes == {"train800": 45, "val200": 15, "train800val200": 60, "test": 30}
    for rows, each in zip(own.rows.values(), (15, 5, 10), strict=True):
        assert np.bincount([label for _, label in rows]).tolist() == [each] * 3
    assert len({path for rows in own.rows.values() for path, _ in rows}) == 90
    own_images.cache_clear()
    assert own_images(tmp_path / "My Insects", 32, 45, 15, 30) == own
    assert own_images(tmp_path / "My Insects", 32).info.split_sizes["test"] == 18
    split = load_own(own, "train800val200", tmp_path / "cache")
    for image, label in zip(split.images, split.labels, strict=True):
        assert image.shape == (3, 32, 32) and int(image.float().mean()) // 80 == label
    assert split.source == "folder"


def test_given_splits_and_lists_are_kept(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        class_folders(tmp_path / "a" / part, 4)
    own = own_images(tmp_path / "a", 8)
    assert [len(rows) for rows in own.rows.values()] == [12, 12, 12]
    assert all("valid" in path.parts for path, _ in own.rows["val200"])
    for i in range(20):
        save(tmp_path / "b" / "all images" / f"{i}.png", image_array(6))
    lines = [f"all images/{i}.png {i % 2}\n" for i in range(20)]
    (tmp_path / "b" / "train.txt").write_text("".join(lines[:14]))
    (tmp_path / "b" / "test.txt").write_text("".join(lines[14:]))
    own = own_images(tmp_path / "b", 8)
    assert [len(rows) for rows in own.rows.values()] == [11, 3, 6]
    (tmp_path / "b" / "train.txt").write_text("".join(lines[:14]) + "../b/x.png 0\n../../x.png 1\n")
    own_images.cache_clear()
    with pytest.raises(DataError, match=r"train.txt:16: .* leaves"):
        own_images(tmp_path / "b", 8)


def test_parts_in_other_spellings_are_no_classes(tmp_path: Path) -> None:
    for part in ("Training", "Validation", "TEST"):
        class_folders(tmp_path / "a" / part, 4)
    own = own_images(tmp_path / "a", 8)
    assert own.info.num_classes == 3 and [len(rows) for rows in own.rows.values()] == [12, 12, 12]
    assert all("TEST" in path.parts for path, _ in own.rows["test"])


def test_parts_that_are_unclear_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class_folders(class_folders(tmp_path / "a", 4) / "test", 4)
    with pytest.raises(DataError, match=r"no folder train beside it: .* put the class folders \(ant, bee, cat\) into"):
        own_images(tmp_path / "a", 8)
    for part in ("train", "val", "valid"):
        class_folders(tmp_path / "b" / part, 4)
    with pytest.raises(DataError, match="has val and valid, which are both for val"):
        own_images(tmp_path / "b", 8)
    for part in ("train", "sketches"):
        class_folders(tmp_path / "c" / part, 10)
    assert own_images(tmp_path / "c", 8).info.num_classes == 3 and "left out beside them: sketches" in caplog.text
    (tmp_path / "d").mkdir()
    for name in ("list", "Test"):
        (tmp_path / "d" / f"{name}.txt").write_text("1.png 0\n")
    with pytest.raises(DataError, match=r"has list\.txt and Test\.txt; keep either"):
        own_images(tmp_path / "d", 8)
    (tmp_path / "d" / "list.txt").unlink()
    with pytest.raises(DataError, match=r"has Test\.txt but no train\.txt"):
        own_images(tmp_path / "d", 8)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        own_images(tmp_path / "none", 8)
    class_folders(tmp_path / "one")
    with pytest.raises(DataError, match="has 90 images to split"):
        own_images(tmp_path / "one", 8, 80, 10, 10)
    outside = tmp_path / "outside.png"
    save(outside)
    os.symlink(outside, tmp_path / "one" / "ant" / "link.png")
    with pytest.raises(DataError, match="link.png is a link that leaves"):
        own_images(tmp_path / "one", 8)
    class_folders(tmp_path / "two" / "train", 4)
    class_folders(tmp_path / "two" / "test", 4)
    save(tmp_path / "two" / "test" / "dog" / "1.png")
    with pytest.raises(DataError, match="has the class dog"):
        own_images(tmp_path / "two", 8)
    for name in ("train", "val", "test"):
        with pytest.raises(DataError, match=rf"dataset\.{name}=0 must be at least 1"):
            own_images(class_folders(tmp_path / "zero", 4), 8, **{name: 0})
    save(tmp_path / "single" / "ant" / "1.png")
    with pytest.raises(DataError, match="at least two"):
        own_images(tmp_path / "single", 8)


def test_changed_and_damaged_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = class_folders(tmp_path / "x", 10)
    (root / "ant" / "notes.txt").write_text("hello")
    own = own_images(root, 8)
    assert "notes.txt" in caplog.text
    first = load_own(own, "test", tmp_path)
    path = own.rows["test"][0][0]
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = np.zeros((8, 16, 3), np.uint8)
    turned[:, :8] = 255
    Image.fromarray(turned).save(path.with_suffix(".jpg"), exif=exif, quality=95)
    path.write_bytes(path.with_suffix(".jpg").read_bytes())
    path.with_suffix(".jpg").unlink()
    own_images.cache_clear()
    second = load_own(own_images(root, 8), "test", tmp_path)
    assert second.content_hash != first.content_hash
    image = second.images[0, 0].float()  # upright: the white half is on top
    assert image[:3].mean() > 200 and image[-3:].mean() < 50
    path.write_bytes(b"no image")
    own_images.cache_clear()
    with pytest.raises(DataError, match=f"{path.name} is not a whole image"):
        load_own(own_images(root, 8), "test", tmp_path)


def test_names_that_are_not_utf8_are_read_like_others(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xe4r"))
    class_folders(root, 10)
    os.rename(os.fsencode(root / "ant"), os.fsencode(root) + b"/\xe4nt")
    os.rename(os.fsencode(root / "bee" / "000.png"), os.fsencode(root / "bee") + b"/\xff.png")
    own = own_images(root, 8)
    assert own.info.num_classes == 3 and sum(len(rows) for rows in own.rows.values()) == 30
    assert own.info.title.encode() == "b\ufffdr".encode()
    split = load_own(own, "test", tmp_path / "cache")
    for image, label in zip(split.images, split.labels, strict=True):
        assert int(image.float().mean()) // 80 == (label + 1) % 3  # what was ant comes last now
    os.rename(os.fsencode(root), os.fsencode(tmp_path / "plain"))
    bad = os.fsencode(tmp_path / "plain") + b"/bee/\xff.png"
    Path(os.fsdecode(bad)).write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        for part in ("train800", "val200", "test"):
            load_own(own_images(tmp_path / "plain", 8), part, tmp_path / "cache")
    assert "is not a whole image" in str(caught.value)


def test_a_digest_of_plain_names_is_what_it_was(tmp_path: Path) -> None:
    root = tmp_path / "x"
    for name in ("größe", "bee"):
        for i in range(5):
            (root / name).mkdir(parents=True, exist_ok=True)
            (root / name / f"{i}.ppm").write_bytes(b"P6 1 1 255\n" + bytes((i, len(name), 0)))
    assert own_images(root, 8).info.id == "folder-x-234a01"


def test_links_to_themselves_are_named(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "x", 4)
    (root / "loop").symlink_to("loop")
    assert own_images(root, 8).info.num_classes == 3  # no folder, and so no class
    (root / "ant" / "loop.png").symlink_to("loop.png")
    own_images.cache_clear()
    with pytest.raises(DataError, match=r"loop\.png"):
        own_images(root, 8)
    (root / "ant" / "loop.png").unlink()
    (root / "list.txt").write_text("ant/000.png 0\nant/loop.png 1\n")
    (root / "ant" / "loop.png").symlink_to("loop.png")
    own_images.cache_clear()
    with pytest.raises(DataError, match=r"list\.txt:2: 'ant/loop\.png'"):
        own_images(root, 8)
    (root / "list.txt").unlink()
    (root / "list.txt").symlink_to("list.txt")
    with pytest.raises(DataError):
        own_images(tmp_path / "x" / "loop", 8)


def test_lists_with_blanks_and_endless_labels(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "x", 10)
    lines = [f"{'ant' if i % 2 else 'bee'}/{i // 2:03d}.png{blank}{i % 2}" for i, blank in
             zip(range(20), 5 * ["  ", " ", "\t", " \t "], strict=True)]  # fmt: skip
    (root / "list.txt").write_text("\n".join(lines))
    assert sum(len(rows) for rows in own_images(root, 8).rows.values()) == 20
    (root / "list.txt").write_text("\n".join([*lines, f"cat/000.png {5000 * '9'}"]))
    own_images.cache_clear()
    with pytest.raises(DataError, match=r"list\.txt:21: label 9{40}\.\.\. is not in 0 to 999999$"):
        own_images(root, 8)
