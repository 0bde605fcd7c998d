"""What decides a VTAB image without any source: order, slices, labels, pixels."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data import TASKS, DataError
from data.base import STORED_SPLITS
from data.decode import to_rgb
from data.images import jpeg75, prepare_image, resize_batch, tf1_bilinear
from data.labels import clevr_distance, dsprites_location, dsprites_orientation, kitti_distance
from data.order import SLICES, hash_order, member_range
from data.sources.raw_files import sun397 as read_sun397
from tests.helpers.vtab_raw import CLEVR_DEPTHS, image_array


def test_golden_order() -> None:
    order = hash_order("train", range(50000))
    assert order[:5] == [16399, 1680, 47917, 17307, 27051]
    assert order[45000:45005] == [13431, 9237, 17462, 32685, 9518]
    order = hash_order("train", range(73257))
    assert [order[i] for i in member_range("svhn", "val200", SLICES["svhn"].sizes)[1]][:5] == [
        21145, 64736, 23870, 1919, 26393]  # fmt: skip
    order = hash_order("train", range(24300))
    assert order[:5] == [16399, 1680, 17307, 1456, 19135]
    order = hash_order("test", range(24300))
    assert order[:5] == [23018, 16932, 19084, 9933, 24157]
    assert order[12150:12155] == [299, 2838, 15595, 9948, 17287]
    for split, name, first in (("train", "train", [251464, 132287, 133786]),
                               ("validation", "valid", [3270, 10310, 20603])):  # fmt: skip
        size = SLICES["camelyon"].sizes[split]
        assert hash_order(split, [f"{name}_{i}" for i in range(size)])[:3] == first
    order = hash_order("train", [f"CLEVR_train_{i:06d}.png" for i in range(70000)])
    assert order[:3] == [43876, 33421, 62025] and order[63000:63003] == [35084, 29360, 4525]


def test_golden_order_of_dsprites() -> None:
    order = hash_order("train", range(737280))
    assert order[:5] == [16399, 634903, 206287, 470425, 352707]
    assert order[589824:589829] == [220697, 85843, 84902, 106270, 175044]
    assert order[663552:663556] == [493443, 195884, 225768, 246626]


def test_sun397_lists_give_the_published_first_images() -> None:
    listing = read_sun397(Path("/nowhere"), "sun397")["train"]
    assert listing.keys is not None and listing.size == 76128
    order = hash_order("train", listing.keys)
    assert listing.keys[order[0]] == "/r/rope_bridge/sun_biqflnsoednmhvce.jpg"
    classes = {os.path.dirname(str(listing.keys[i])) for i in order[:800]}
    assert len(classes) == 309


@pytest.mark.parametrize("task_id", SLICES)
def test_slices_have_the_official_sizes(task_id: str) -> None:
    sizes = SLICES[task_id].sizes
    for split in STORED_SPLITS:
        assert len(member_range(task_id, split, sizes)[1]) == TASKS[task_id].split_sizes[split]
    short = {split: 850 for split in sizes}
    with pytest.raises(DataError, match="val200 needs"):
        member_range(task_id, "val200", {**short, SLICES[task_id].val[0]: 150})


def test_bins_at_their_thresholds() -> None:
    assert [clevr_distance([d, 99.0]) for d in CLEVR_DEPTHS] == [0, 1, 1, 2, 3, 4, 5]
    assert [kitti_distance([d]) for d in (8.0, 8.01, 20.0, 20.01, 1000.0)] == [0, 1, 1, 2, 3]
    assert kitti_distance([]) == 3
    with pytest.raises(ValueError, match="in no bin"):
        clevr_distance([0.0])
    assert [dsprites_orientation(i) for i in range(40)] == [int(np.floor(i / 2.5)) for i in range(40)]
    assert [dsprites_location(i) for i in range(32)] == [i // 2 for i in range(32)]


def test_odd_images_become_rgb(tmp_path: Path) -> None:
    base = Image.fromarray(image_array(16))
    for mode, suffix in (("CMYK", "jpg"), ("P", "png"), ("RGBA", "png"), ("L", "png"), ("LA", "png"), ("1", "png")):
        path = tmp_path / f"{mode}.{suffix}"
        base.convert(mode).save(path)
        assert prepare_image(path.read_bytes(), str(path), 8).shape == (3, 8, 8)
    deep = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    grey = np.asarray(to_rgb((tmp_path / "deep.png").read_bytes(), "deep"))[..., 0]
    assert np.array_equal(grey, deep >> 8)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter turn
    Image.fromarray(image_array((4, 8))).save(tmp_path / "turned.jpg", exif=exif)
    assert to_rgb((tmp_path / "turned.jpg").read_bytes(), "turned").size == (8, 4)
    with pytest.raises(DataError, match="text.jpg is not a whole image"):
        to_rgb(b"not an image", "text.jpg")


def test_pixels_of_odd_images_are_those_written(tmp_path: Path) -> None:
    def read(image: Image.Image, **options: object) -> np.ndarray:
        image.save(tmp_path / "x.png" if image.mode != "CMYK" else tmp_path / "x.tif", **options)
        path = tmp_path / ("x.png" if image.mode != "CMYK" else "x.tif")
        return np.asarray(to_rgb(path.read_bytes(), "x", own=True))

    colours, index = image_array((1, 4))[0], np.arange(16, dtype=np.uint8).reshape(4, 4) % 4
    palette = Image.fromarray(index, "P")
    palette.putpalette(colours.tobytes())
    assert np.array_equal(read(palette), colours[index])
    assert np.array_equal(read(palette, transparency=0), colours[index])
    rgb = image_array((4, 6))
    alpha = np.concatenate([rgb, np.full((4, 6, 1), 7, np.uint8)], -1)
    assert np.array_equal(read(Image.fromarray(alpha, "RGBA")), rgb)  # dropped, not blended
    ink = np.concatenate([255 - rgb, np.zeros((4, 6, 1), np.uint8)], -1)
    assert np.array_equal(read(Image.fromarray(ink, "CMYK")), rgb)
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(read(Image.fromarray(rgb), exif=exif), rgb.transpose(1, 0, 2)[:, ::-1])


def test_resizes_and_codec() -> None:
    array = image_array((7, 5))
    expected = np.asarray(Image.fromarray(array).resize((9, 9), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.array_equal(prepare_image(array, "x", 9), expected)
    batch = torch.from_numpy(array[:5, :5].transpose(2, 0, 1).copy())[None]
    assert np.array_equal(resize_batch(batch, 9)[0].numpy(), prepare_image(array[:5, :5], "x", 9))
    out, a = tf1_bilinear(array, 9), array.astype(float)
    for y in range(9):
        for x in range(9):
            v, u = y * 7 / 9, x * 5 / 9
            top, left = int(v), int(u)
            low, right = min(top + 1, 6), min(left + 1, 4)
            fy, fx = v - top, u - left
            value = (a[top, left] * (1 - fx) + a[top, right] * fx) * (1 - fy) + (
                a[low, left] * (1 - fx) + a[low, right] * fx) * fy  # fmt: skip
            assert np.abs(out[y, x] - value).max() <= 0.51
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "JPEG", quality=75, subsampling="4:2:0")
    assert np.array_equal(np.asarray(jpeg75(Image.fromarray(array))), np.asarray(Image.open(stream)))
