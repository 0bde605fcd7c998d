"""Steps of tensorflow-datasets that change pixels before they are stored, done with the OpenCV functions it uses.

sun397 is limited in size; retina photographs are prepared as the winner of the 2015 Kaggle competition (B. Graham) did.
OpenCV turns both upright by their EXIF data, there as here. Twelve images of pets are encoded anew.
"""

from __future__ import annotations

import io
from pathlib import Path
from types import ModuleType

import numpy as np

from data.base import DataError
from data.decode import to_rgb
from data.sources.base import optional
from data.sources.reading import faults

RADIUS, KEPT, QUALITY = 300, 0.9, 72
"""The eye is scaled to this radius in pixels, of which this share is kept; then JPEG of this quality."""

SUN_PIXELS = 120_000

PETS_RECODED = frozenset(
    ["beagle_116", "chihuahua_121", "Abyssinian_5", "Abyssinian_34"]
    + [f"Egyptian_Mau_{i}" for i in (14, 139, 145, 156, 167, 177, 186, 191)]
)
"""Pictures of pets that are damaged or no JPEG, whatever their names say; listed so by tensorflow-datasets."""


def _cv2() -> ModuleType:
    return optional("cv2", "opencv-python-headless")


def _decoded(content: bytes, name: str) -> np.ndarray:
    """BGR uint8 (H, W, 3)."""
    cv2, image = _cv2(), None
    with faults(f"{name} is not a whole image"):
        if content:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if image is None:
        raise DataError(f"{name} is not a whole image (OpenCV cannot decode it); fetch it again")
    return np.asarray(image)


def limited(content: bytes, name: str) -> bytes:
    """sun397: at most 120,000 pixels, as JPEG of OpenCV's default quality. Raises DataError on a damaged image."""
    cv2 = _cv2()
    to_rgb(content, name)  # OpenCV fills in what a cut-off file lacks; that is no image to keep
    image = _decoded(content, name)
    pixels = image.shape[0] * image.shape[1]
    if pixels > SUN_PIXELS:
        factor = np.sqrt(SUN_PIXELS / pixels)
        image = cv2.resize(image, None, fx=factor, fy=factor)
    return bytes(cv2.imencode(".jpg", image)[1])


def recoded(content: bytes, name: str) -> bytes:
    """pets: one of `PETS_RECODED` without transparency, as TensorFlow's default JPEG; any other picture as it is.

    A picture that was a JPEG before differs by a few levels: TensorFlow decodes with the fast, less exact transform.

    Raises:
        DataError: on a damaged image.
    """
    if Path(name).stem not in PETS_RECODED:
        return content
    stream = io.BytesIO()
    to_rgb(content, name).save(stream, "JPEG", quality=95, subsampling="4:2:0", dpi=(300, 300))
    return stream.getvalue()


def btgraham(content: bytes, name: str) -> bytes:
    """The configuration "btgraham-300": local average subtracted from an eye of fixed radius, as JPEG.

    The radius is half the number of pixels of the middle row that are brighter than a tenth of its mean.

    Raises:
        DataError: if the image cannot be decoded.
    """
    to_rgb(content, name)  # as above
    cv2, image = _cv2(), _decoded(content, name)
    row = image[len(image) // 2].sum(axis=1)
    radius = np.count_nonzero(row > row.mean() / 10) / 2
    scale = RADIUS / (radius if radius >= 1 else len(image) / 2)  # a black middle row: the whole height is the eye
    image = cv2.resize(image, None, fx=scale, fy=scale)
    image = cv2.addWeighted(image, 4, cv2.GaussianBlur(image, (0, 0), RADIUS / 30), -4, 128)
    kept, (height, width) = int(RADIUS * KEPT), image.shape[:2]
    inside = np.zeros((height, width, 3))
    cv2.circle(inside, (width // 2, height // 2), kept, (1, 1, 1), -1)
    image = np.where(inside > 0, image, 128)
    rows = slice(max(height // 2 - kept, 0), height // 2 + kept)
    columns = slice(max(width // 2 - kept, 0), width // 2 + kept)
    return bytes(cv2.imencode(".jpg", image[rows, columns].astype(float), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
