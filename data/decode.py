"""From the bytes of an image file to RGB, with Pillow. Every fault of a file is one DataError that names it.

Policy: RGB as Pillow's `convert("RGB")` gives it. Palettes are resolved, CMYK is converted, transparency is dropped.
The images of published data sets are read as their published readers read them: 16-bit greys keep their high byte,
EXIF rotation is not applied (but see `data.sources.processing`). One's own are turned upright, and deeper greys are
scaled where their range is clear.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from data.base import DataError, error_text

log = logging.getLogger(f"glora.{__name__}")

RawImage = bytes | np.ndarray

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""What is opened, whatever a file is called: of Pillow's other readers some start programs (EPS: Ghostscript)."""

OWN_RULES = "r2"
"""The version of the rules for one's own images, in the name of their cache: other rules, other pixels."""

TRUST = "GLORA_TRUST_IMAGES"
"""The environment variable that lifts Pillow's limits (set to 1)."""

_QUIET = ("ignore", None, Image.DecompressionBombWarning, None, 0)
_PIXELS, _TEXT, _TEXTS = Image.MAX_IMAGE_PIXELS, PngImagePlugin.MAX_TEXT_CHUNK, PngImagePlugin.MAX_TEXT_MEMORY

_TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""


def _set_limits() -> None:
    """Pillow's limits as it has them, or none. They hold for the process: threads that decode all set the same.

    Its warning comes at half the size at which it refuses, where nothing is wrong.
    """
    if _QUIET not in warnings.filters:  # each time: whoever restores filters drops ours
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    value = os.environ.get(TRUST, "").strip()
    if value not in ("", "0", "1"):
        raise DataError(f"{TRUST}={value} is neither 0 nor 1; 1 lifts Pillow's limits on the size of pictures")
    trusted = value == "1"
    Image.MAX_IMAGE_PIXELS = None if trusted else _PIXELS
    PngImagePlugin.MAX_TEXT_CHUNK = sys.maxsize if trusted else _TEXT
    PngImagePlugin.MAX_TEXT_MEMORY = sys.maxsize if trusted else _TEXTS


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What Pillow raises inside, as DataError that says what is wrong with the file `name` and what to do."""
    _set_limits()
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise DataError(f"{name} is not a whole image (none of {known}); fetch it again") from error
    except MemoryError as error:
        raise DataError(f"{name} needs more memory than there is; save it smaller") from error
    except Exception as error:  # Pillow's readers raise whatever they meet in a damaged file
        if isinstance(error, OSError) and error.strerror:  # the system's, not Pillow's
            raise DataError(f"{name} cannot be read ({error.strerror})") from error
        if isinstance(error, Image.DecompressionBombError) or "MAX_TEXT_" in str(error):
            raise DataError(f"{name} is over one of Pillow's limits ({error_text(error)}), which guard against files "
                            "made to fill the memory. Save it smaller or without its text, or, if the file is your "
                            f"own, lift the limits: export {TRUST}=1") from error  # fmt: skip
        raise DataError(f"{name} is not a whole image ({error_text(error)}); fetch it again") from error


def open_image(source: Path | IO[bytes]) -> Image.Image:
    """Pillow's image of a file, its pixels not read yet. Raises what Pillow does, for a format not in `FORMATS` too."""
    return Image.open(source, formats=FORMATS)


def _turn(image: Image.Image, name: str) -> Image.Transpose | None:
    """What makes `image` upright by its EXIF data; nothing does where those are damaged, which is logged.

    Not Pillow's `exif_transpose`: it encodes all EXIF data anew, and fails on any tag of a wrong type.
    """
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception as error:  # as in `reading`
        log.warning("%s has damaged EXIF data (%s) and is not turned", name, error_text(error))
        return None


def _unclear(name: str, what: str) -> DataError:
    return DataError(f"{name} has {what}, so that its brightness is unclear. Write it as 8-bit image, all of the data "
                     "set with one scale: values to 255 as they are, 12 bits // 16, 16 bits // 256")  # fmt: skip


def _eight_bits(image: Image.Image, rawmode: str, name: str) -> Image.Image:
    """Greys of 12, 16 or 32 bits as 8-bit greys, scaled by format, or by range where only one reading makes sense.

    float: 0 to 1, else 0 to 255. 32-bit whole numbers: 0 to 255. 16 bits: their high byte, unless all are below 4096,
    which are 12-bit values or a very dark picture. Raises DataError on anything else.
    """
    values = np.asarray(image)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if not 0 <= low <= high <= 255:  # NaN too
            raise _unclear(name, f"floating-point values from {low:g} to {high:g}, neither 0 to 1 nor 0 to 255")
        out = np.rint(values * 255 if high <= 1 else values)
    elif rawmode == "I;12":
        out = values >> 4
    elif image.mode == "I" and image.format != "PPM":  # there 16 bits, scaled to the maximum that the file names
        if not 0 <= low <= high <= 255:
            raise _unclear(name, f"32-bit values from {low} to {high}, beyond 0 to 255")
        out = values
    else:
        if 0 < high < 4096:
            raise _unclear(name, f"16-bit values of at most {high}")
        out = values >> 8
    return Image.fromarray(out.astype(np.uint8))


def _rawmode(image: Image.Image) -> str:
    """How samples are stored in the file, in Pillow's terms, such as "RGB;16B"; known until the pixels are loaded."""
    tile = getattr(image, "tile", None)
    args = tile[0].args if tile else ""
    return str(args[0] if isinstance(args, tuple) and args else args)


def to_rgb(raw: RawImage, name: str, own: bool = False) -> Image.Image:
    """A decoded RGB image; `raw` is an encoded file or uint8 (H, W), (H, W, 1) or (H, W, 3).

    `own`: by the rules for one's own images, see above.

    Raises:
        DataError: with `name` (path, or source and index) if it cannot be decoded, is over Pillow's limits, or has
            greys of unclear range.
    """
    if isinstance(raw, np.ndarray):
        array = raw[..., 0] if raw.ndim == 3 and raw.shape[-1] == 1 else raw
        return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    with reading(name):
        image = open_image(io.BytesIO(raw))
        rawmode = _rawmode(image)
        image.load()
        if 0 in image.size:
            raise ValueError("it has no pixels")
        turn = _turn(image, name) if own else None
        if own and image.mode.startswith(("I", "F")):
            image = _eight_bits(image, rawmode, name)
        elif image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        elif image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        image = image.convert("RGB")
        if own and ";16" in rawmode and 0 < (high := int(np.asarray(image).max())) < 16:
            raise _unclear(name, f"16-bit values below {256 * (high + 1)}")  # Pillow keeps the high bytes of colours
        return image if turn is None else image.transpose(turn)
