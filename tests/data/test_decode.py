"""One's own image files: deep greys, EXIF data, Pillow's limits, what errors and warnings say."""

from __future__ import annotations

import io
import struct
import subprocess
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from data import DataError, load_own, own_images
from data.cache import write_split
from data.decode import TRUST, to_rgb
from data.native import write_images
from tests.helpers.damaged_images import ORIENTATION, encoded, exif_block, outcomes, with_exif
from tests.helpers.vtab_raw import image_array, save

INFO = {"source": "raw", "codec": "raw", "resize": "bicubic"}
LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


def grey(array: np.ndarray, kind: str = "TIFF", own: bool = True) -> np.ndarray:
    """The grey values that `array`, written as it is, decodes to."""
    rgb = np.asarray(to_rgb(encoded(Image.fromarray(array), kind), "x", own))
    assert (rgb == rgb[..., :1]).all()
    return rgb[..., 0]


def deep_rgb(values: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, which Pillow reads but does not write; uint16 (H, W, 3)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tif_12(values: np.ndarray) -> bytes:
    """A TIFF of 12 bits per sample, two samples in three bytes; uint16 (H, W), W even."""
    pairs = values.reshape(-1, 2).astype(int)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
    data = packed.astype(np.uint8).tobytes()
    height, width = values.shape
    tags = [(256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, height),
            (279, len(data))]  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + rows + bytes(4)


def test_deep_greys_are_scaled_where_their_range_is_clear() -> None:
    for values in (LEVELS.astype(np.float32) / 255, LEVELS.astype(np.float32), LEVELS.astype(np.int32)):
        assert np.array_equal(grey(values), LEVELS)
    for kind in ("TIFF", "PNG", "PPM"):
        assert np.array_equal(grey(LEVELS.astype(np.uint16) * 257, kind), LEVELS)
    assert np.array_equal(grey(LEVELS.astype(">u2") * 257), LEVELS)
    twelve = np.asarray(to_rgb(tif_12(LEVELS.astype(np.uint16) * 16 + 15), "x", own=True))[..., 0]
    assert np.array_equal(twelve, LEVELS)
    colours = image_array((5, 6))
    assert np.array_equal(np.asarray(to_rgb(deep_rgb(colours.astype(np.uint16) * 257), "x", own=True)), colours)
    assert not grey(np.zeros((4, 4), np.uint16)).any()


@pytest.mark.parametrize(
    ("values", "message"),
    [(LEVELS.astype(np.uint16) * 16, "16-bit values of at most 4080"), (LEVELS.astype(np.uint16), "at most 255"),
     (LEVELS.astype(np.int32) * 16, "32-bit values from 0 to 4080"), (LEVELS.astype(np.int32) - 9, "from -9 to 246"),
     (LEVELS.astype(np.float32) * 16, "from 0 to 4080, neither 0 to 1"), (LEVELS / np.float32(128) - 1, "from -1 to"),
     (np.full((4, 4), np.nan, np.float32), "from nan to nan")],
)  # fmt: skip
def test_greys_of_unclear_range_are_refused_with_what_to_do(values: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=rf"^x has .*{message}.*Write it as 8-bit image.*12 bits // 16"):
        grey(values)


def test_dark_colours_of_16_bits_are_refused() -> None:
    with pytest.raises(DataError, match="^x has 16-bit values below 4096, so that its brightness is unclear"):
        to_rgb(deep_rgb(image_array((9, 9)).astype(np.uint16) * 16), "x", own=True)


def test_published_data_sets_keep_the_high_byte() -> None:
    for values in (LEVELS.astype(np.uint16) * 16, LEVELS.astype(np.uint16) * 257, LEVELS.astype(np.int32) * 16):
        assert np.array_equal(grey(values, own=False), values >> 8)


def test_images_of_one_colour_are_counted_with_the_first_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = [image_array(8), np.full((8, 8, 3), 3, np.uint8), LEVELS[:8, :8] % 7, image_array(8)]
    pixels[2] = np.stack([pixels[2]] * 3, -1)
    for i, array in enumerate(pixels):
        save(tmp_path / f"{i}.png", array)
    write_split(tmp_path / "a.safetensors", 4, 8, lambda i: (pixels[i].transpose(2, 0, 1), 0), INFO, 1)
    assert "a.safetensors: 2 of 4 images are of one colour or nearly so, the first is image 1" in caplog.text
    caplog.clear()
    write_images(tmp_path / "b.safetensors", [(tmp_path / f"{i}.png", 0) for i in range(4)], INFO)
    assert "2 of 4 images are of one colour" in caplog.text and f"the first is {tmp_path / '1.png'}" in caplog.text
    caplog.clear()
    write_split(tmp_path / "c.safetensors", 2, 8, lambda i: (pixels[3 * i].transpose(2, 0, 1), 0), INFO, 1)
    assert not caplog.records
    for label in ("ant", "bee"):
        for i in range(9):
            save(tmp_path / "own" / label / f"{i}.png", np.zeros((4, 4), np.uint8) if i % 2 else image_array(9))
    own = own_images(tmp_path / "own", 8)
    load_own(own, "train800", tmp_path)
    dark = [path for path, _ in own.rows["train800"] if int(path.stem) % 2]
    assert f"{len(dark)} of {len(own.rows['train800'])} images are of one colour" in caplog.text
    assert f"the first is {dark[0]}" in caplog.text


ODD = {
    "ResolutionUnit as text": (0x0128, 2, 5, b"inch\0"), "XResolution as text": (0x011A, 2, 3, b"72\0"),
    "Make as a fraction": (0x010F, 5, 1, struct.pack("<II", 7, 3)), "Make as numbers": (0x010F, 4, 2, bytes(8)),
    "a sub-directory that is none": (0x8769, 2, 4, b"abc\0"), "a type that does not exist": (0x0131, 77, 9, b"abcd"),
}  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_images_are_turned_whatever_their_other_exif_data_are(kind: str, odd: str) -> None:
    whole = encoded(Image.fromarray(image_array((5, 8))), kind)
    pixels = np.asarray(to_rgb(whole, "x"))
    upright = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 4: pixels[::-1], 5: pixels.transpose(1, 0, 2),
               6: pixels[::-1].transpose(1, 0, 2), 7: pixels[::-1, ::-1].transpose(1, 0, 2),
               8: pixels[:, ::-1].transpose(1, 0, 2)}  # fmt: skip
    for orientation, expected in upright.items():
        turn = (ORIENTATION, 3, 1, struct.pack("<H", orientation))
        content = with_exif(whole, exif_block(sorted([turn, ODD[odd]])))
        assert np.array_equal(np.asarray(to_rgb(content, "x", own=True)), expected)
        assert np.array_equal(np.asarray(to_rgb(content, "x")), pixels)


def test_deep_greys_are_turned_too() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    for kind in ("PNG", "TIFF"):  # of a TIFF, Pillow turns the pixels itself
        content = encoded(Image.fromarray(LEVELS[:4].astype(np.uint16) * 257), kind, exif=exif)
        assert np.array_equal(np.asarray(to_rgb(content, "x", own=True))[..., 0], LEVELS[:4][::-1].T)


def test_damaged_exif_data_do_not_cost_the_image(caplog: pytest.LogCaptureFixture) -> None:
    pixels = image_array((5, 8))
    content = encoded(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0no directory")
    assert np.array_equal(np.asarray(to_rgb(content, "x.png", own=True)), pixels)
    assert "x.png has damaged EXIF data" in caplog.text and "0x" not in caplog.text


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_files_are_named_and_nothing_else_escapes() -> None:
    found = outcomes(400, seed=0)
    assert min(found["decoded"], found["named"]) > 100


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_twenty_thousand_damaged_files_are_named() -> None:
    found = outcomes(20_000, seed=1)
    assert min(found["decoded"], found["named"]) > 5_000


def much_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 5_000_000, zip=True)
    return encoded(Image.fromarray(image_array((5, 8))), "PNG", pnginfo=text)


def test_the_limits_of_pillow_are_named_and_can_be_lifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TRUST, raising=False)
    many, few, text = (encoded(Image.new("1", (13400, 13400)), "PNG"), encoded(Image.new("1", (8, 14)), "PNG"),
                       much_text())  # fmt: skip
    with pytest.raises(DataError, match=rf"^x is over one of Pillow's limits .*179560000 pixels.*export {TRUST}=1"):
        to_rgb(many, "x", own=True)
    monkeypatch.setattr("data.decode._PIXELS", 50)  # the small one stands for the large: that takes 540 MB
    for content, size, message in ((few, (8, 14), "112 pixels"), (text, (8, 5), "MAX_TEXT_CHUNK")):
        monkeypatch.setenv(TRUST, "0")
        with pytest.raises(DataError, match=rf"^x is over one of Pillow's limits .*{message}.*export {TRUST}=1"):
            to_rgb(content, "x", own=True)
        monkeypatch.setenv(TRUST, "1")
        assert to_rgb(content, "x", own=True).size == size
    monkeypatch.setenv(TRUST, "yes")
    with pytest.raises(DataError, match=f"{TRUST}=yes is neither 0 nor 1"):
        to_rgb(few, "x", own=True)


def test_images_below_the_limit_come_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.decode._PIXELS", 50)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert to_rgb(encoded(Image.new("1", (9, 8)), "PNG"), "x", own=True).size == (9, 8)
    assert not caught


def test_errors_hold_no_addresses(tmp_path: Path) -> None:
    for content in (b"no image", b"", b"II*\0" + bytes(30), encoded(Image.fromarray(image_array()), "GIF")[:40]):
        (tmp_path / "1.jpg").write_bytes(content)
        with pytest.raises(DataError, match=r"^x is not a whole image") as failed:
            to_rgb(content, "x")
        with pytest.raises(DataError, match=rf"^{tmp_path}/1.jpg is not a whole image") as other:
            write_images(tmp_path / "a.safetensors", [(tmp_path / "1.jpg", 0)], INFO)
        assert "0x" not in str(failed.value) + str(other.value)
    with pytest.raises(DataError, match=f"^{tmp_path}/none.jpg cannot be read .No such file"):
        write_images(tmp_path / "a.safetensors", [(tmp_path / "none.jpg", 0)], INFO)


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TGA", "ICO", "PDF"])
def test_a_format_that_no_data_set_has_reaches_none_of_pillows_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def started(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    path = tmp_path / "x.jpg"
    Image.new("RGB", (8, 8)).save(path, kind)
    for read in (lambda: to_rgb(path.read_bytes(), str(path)), lambda: write_images(tmp_path / "c", [(path, 0)], {})):
        with pytest.raises(DataError, match=r"x.jpg is not a whole image \(none of JPEG, PNG, BMP, GIF, PPM, TIFF"):
            read()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "MPO"])
def test_the_formats_of_the_data_sets_are_read_whatever_the_file_is_called(kind: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(stream, kind)
    assert to_rgb(stream.getvalue(), "x.jpg").getpixel((4, 4))[0] > 190  # type: ignore[index]
