"""The pixel steps of retinopathy and sun397 against tensorflow-datasets' own functions."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorflow_datasets.datasets.oxford_iiit_pet import oxford_iiit_pet_dataset_builder as pet
from tensorflow_datasets.datasets.sun397 import sun397_dataset_builder as sun
from tensorflow_datasets.image_classification import diabetic_retinopathy_detection as retina

from data import DataError, get_task
from data.decode import to_rgb
from data.sources.processing import PETS_RECODED, btgraham, limited, recoded
from data.sources.raw import raw
from tests.helpers.vtab_raw import eye, image_array, save


def jpeg(array: np.ndarray, kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


EYES = {
    "small": eye(60),
    "large": eye(900),
    "black middle row": np.concatenate([image_array((40, 90)), np.zeros((30, 90, 3), np.uint8), image_array((30, 90))]),
    "all black": np.zeros((50, 60, 3), np.uint8),
    "wide": eye(200)[60:140],
}


@pytest.mark.parametrize("name", EYES)
def test_retina_photographs_are_processed_as_tensorflow_datasets_does(name: str) -> None:
    content = jpeg(EYES[name])
    expected = retina._btgraham_processing(io.BytesIO(content), name, target_pixels=300, crop_to_radius=True)
    ours = btgraham(content, name)
    assert ours == expected.getvalue()
    assert Image.open(io.BytesIO(ours)).size[0] <= 540


@pytest.mark.parametrize(
    ("shape", "kind"), [((300, 400), "JPEG"), ((301, 400), "JPEG"), ((700, 500), "PNG"), ((20, 30), "BMP")]
)
def test_sun397_is_limited_as_tensorflow_datasets_does(shape: tuple[int, int], kind: str) -> None:
    content = jpeg(image_array(shape), kind)
    expected = sun._process_image_file(io.BytesIO(content), None, "x", target_pixels=120000)
    ours = limited(content, "x")
    assert ours == expected.getvalue()
    height, width = np.asarray(Image.open(io.BytesIO(ours))).shape[:2]
    assert height * width <= 120000 * 1.01 and (height, width) == shape or height * width > 100000


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_where_tensorflow_datasets_applies_it(orientation: int) -> None:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(eye(300)).save(stream, "JPEG", exif=exif)
    content = stream.getvalue()
    ours = limited(content, "x")
    assert ours == sun._process_image_file(io.BytesIO(content), None, "x", target_pixels=120_000).getvalue()
    assert to_rgb(ours, "x").size == ((300, 314) if orientation > 4 else (314, 300))
    ours = btgraham(content, "x")
    assert ours == retina._btgraham_processing(io.BytesIO(content), "x", 300, True).getvalue()


COLOURS = np.mgrid[:40, :50]
COLOURS = np.stack([COLOURS[1] * 5, COLOURS[0] * 6, COLOURS[0] * COLOURS[1] % 256, 255 - COLOURS[1]], -1)
JPEG_OF_TENSORFLOW = "85a95741f05e93832272ada7ca2b07cc86a5779d6274e1b561d98977a7c3a676"
"""sha256 of what TensorFlow 2.21 makes of COLOURS: `encode_jpeg(decode_image(png)[..., :3])`."""


def test_the_pets_that_tensorflow_datasets_encodes_anew_are_too(tmp_path: Path) -> None:
    assert set(pet._CORRUPT_SAMPLES) == PETS_RECODED
    colours = COLOURS.astype(np.uint8)
    for array in (colours, colours[..., :3]):
        ours = recoded(jpeg(array, "PNG"), "images/Egyptian_Mau_139.jpg")
        assert hashlib.sha256(ours).hexdigest() == JPEG_OF_TENSORFLOW
    folder = tmp_path / "oxford_iiit_pet"
    (folder / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        (folder / "annotations" / f"{split}.txt").write_text("Egyptian_Mau_139 12 1 5\nEgyptian_Mau_13 12 1 5\n")
    for name in ("Egyptian_Mau_139", "Egyptian_Mau_13"):
        save(folder / "images" / f"{name}.png", colours)
        (folder / "images" / f"{name}.png").rename(folder / "images" / f"{name}.jpg")
    for listing in raw(tmp_path, get_task("pets")).values():
        contents = [listing.get(i).image for i in range(2)]
        assert hashlib.sha256(contents[0]).hexdigest() == JPEG_OF_TENSORFLOW
        assert contents[1] == (folder / "images" / "Egyptian_Mau_13.jpg").read_bytes()
    with pytest.raises(DataError, match="beagle_116.jpg is not a whole image"):
        recoded(b"", "beagle_116.jpg")


def test_damaged_images_are_named(tmp_path: Path) -> None:
    whole = jpeg(eye(100))
    for process in (btgraham, limited):
        for content in (b"", b"no image", whole[: len(whole) // 2]):
            with pytest.raises(DataError, match="5_left.jpeg is not a whole image"):
                process(content, "5_left.jpeg")


def test_retinopathy_splits_follow_the_usage_column(raw_root: Path, tmp_path: Path) -> None:
    listings = raw(raw_root, get_task("retinopathy"))
    assert {split: x.size for split, x in listings.items()} == {"train": 840, "validation": 209, "test": 11}
    assert listings["test"].keys == [f"{i}_left" for i in range(0, 220, 20)]
    assert [listings["train"].get(i).label for i in range(6)] == [0, 0, 1, 1, 2, 2]
    folder = tmp_path / "diabetic_retinopathy_detection"
    folder.mkdir()
    (folder / "trainLabels.csv").write_text("image,level\n1_left,many\n")
    with pytest.raises(DataError, match="trainLabels.csv:2: label many is not in 0 to 4"):
        raw(tmp_path, get_task("retinopathy"))
