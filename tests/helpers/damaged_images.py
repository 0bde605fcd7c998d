"""Damaged image files: mutated EXIF blocks and headers of every common format decode, or are named; never more."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections import Counter

import numpy as np
from PIL import Image

from data import DataError
from data.images import prepare_image

ORIENTATION = 0x0112
TAGS = (0x010F, 0x0110, ORIENTATION, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x02BC, 0x8769, 0x8825, 0x9000, 0x927C,
        0xA005, 0xEA1C)  # fmt: skip


def exif_block(entries: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    """EXIF data of (tag, type, count, value) entries, values of more than four bytes after the directory."""
    start, rows, values = 8 + 2 + 12 * len(entries) + 4, b"", b""
    for tag, kind, count, value in entries:
        rows += struct.pack(f"{order}HHI", tag, kind, count)
        rows += value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", start + len(values))
        values += value if len(value) > 4 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return b"Exif\0\0" + head + struct.pack(f"{order}H", len(entries)) + rows + bytes(4) + values


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def random_exif(rng: random.Random) -> bytes:
    order = rng.choice("<>")
    entries = [(ORIENTATION, 3, 1, struct.pack(f"{order}H", rng.randrange(10)))]
    for _ in range(rng.randrange(6)):
        value = rng.randbytes(rng.choice((0, 1, 2, 4, 5, 8, 24)))
        entries.append((rng.choice(TAGS), rng.randrange(14), rng.choice((0, 1, 2, 5, len(value), 2**32 - 1)), value))
    rng.shuffle(entries)
    return exif_block(entries, order)


def samples() -> dict[str, bytes]:
    """Small whole files of the formats that people have."""
    colour = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8))
    deep = Image.fromarray(np.arange(126, dtype=np.uint16).reshape(9, 14) * 520)
    real = Image.fromarray(np.linspace(0, 1, 126, dtype=np.float32).reshape(9, 14))
    options = {f"{c} tif": {"compression": c} for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4")}
    return {
        "jpg": encoded(colour, "JPEG"), "grey jpg": encoded(colour.convert("L"), "JPEG", progressive=True),
        "cmyk jpg": encoded(colour.convert("CMYK"), "JPEG"), "png": encoded(colour, "PNG"),
        "palette png": encoded(colour.quantize(9), "PNG", transparency=3), "deep png": encoded(deep, "PNG"),
        "gif": encoded(colour, "GIF", save_all=True, append_images=[colour.rotate(90)]), "bmp": encoded(colour, "BMP"),
        "webp": encoded(colour, "WEBP"), "ppm": encoded(colour, "PPM"), "deep tif": encoded(deep, "TIFF"),
        "real tif": encoded(real, "TIFF"), "mpo": encoded(colour, "MPO", save_all=True, append_images=[colour]),
        **{name: encoded(colour.convert("1") if "group4" in name else colour, "TIFF", **found)
           for name, found in options.items()},
    }  # fmt: skip


def with_exif(whole: bytes, block: bytes) -> bytes:
    """A JPEG or PNG with an EXIF block of its own, whatever it holds."""
    if whole[:2] == b"\xff\xd8":
        return whole[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + whole[2:]
    chunk = b"eXIf" + block[6:]
    return whole[:33] + struct.pack(">I", len(block) - 6) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]


def mutated(content: bytes, first: int, last: int, rng: random.Random) -> bytes:
    """One to eight changes between two places: a byte, two or four at an extreme, a cut, a repetition."""
    out = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at, last = rng.randrange(first, last), min(last, len(out))
        at = min(at, len(out) - 1)
        kind = rng.randrange(6)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 2, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", rng.randbytes(4)))
        elif kind == 3:
            out[at : at + 2] = rng.choice((b"\xff\xff", b"\x00\x00", rng.randbytes(2)))
        elif kind == 4 and rng.random() < 0.3:
            del out[at : at + rng.randint(1, 20)]
        elif kind == 5 and rng.random() < 0.3:
            out[at:at] = out[at : at + rng.randint(1, 20)]
        if len(out) <= first + 2:
            break
    return bytes(out)


def outcomes(count: int, seed: int) -> Counter[str]:
    """How many of `count` damaged files decode and how many are named; anything else fails."""
    rng, found = random.Random(seed), Counter[str]()
    whole = samples()
    for i in range(count):
        name = rng.choice(list(whole))
        content, last = whole[name], min(120, len(whole[name]))
        first = 0
        if i % 2:
            name = rng.choice(("jpg", "png"))
            block = random_exif(rng)
            content = with_exif(whole[name], block)
            first = 6 if name == "jpg" else 41
            last = first + len(block)
        if i % 4 != 1:  # every fourth has a block that is strange but not damaged
            content = mutated(content, first, last, rng)
        try:
            image = prepare_image(content, f"file {i}", 8, own=i % 3 > 0)
            assert image.shape == (3, 8, 8) and image.dtype == np.uint8
            found["decoded"] += 1
        except DataError as error:
            assert str(error).startswith(f"file {i} ") and "0x" not in str(error), error
            found["named"] += 1
        except Exception as error:
            raise AssertionError(f"file {i} of seed {seed}, a {name}") from error
    return found
