"""From decoded files to the uint8 images a cache holds.

No cropping: images are squashed to squares, as VTAB does.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.decode import RawImage, open_image, to_rgb

CODECS = ("raw", "jpeg75")
RESIZES = ("bicubic", "tf1_bilinear")


def jpeg75(image: Image.Image) -> Image.Image:
    """A round trip through Pillow's default JPEG (quality 75, 4:2:0), which the public vtab-1k folder went through."""
    stream = io.BytesIO()
    image.save(stream, "JPEG")
    return open_image(stream).convert("RGB")


def tf1_bilinear(array: np.ndarray, size: int) -> np.ndarray:
    """`tf.compat.v1.image.resize` with bilinear weights: no half-pixel centres, no antialiasing; (H, W, 3) uint8."""
    out = array.astype(np.float32)
    for axis in (0, 1):
        length = out.shape[axis]
        at = np.arange(size, dtype=np.float32) * np.float32(length / size)
        low = np.floor(at).astype(int)
        high, shape = np.minimum(low + 1, length - 1), [1, 1, 1]
        shape[axis] = size
        first, weight = np.take(out, low, axis), (at - low).reshape(shape)
        out = first + (np.take(out, high, axis) - first) * weight
    return np.rint(out).astype(np.uint8)


def prepare_image(
    raw: RawImage, name: str, size: int, codec: str = "raw", resize: str = "bicubic", own: bool = False
) -> np.ndarray:
    """uint8 (3, size, size): decoded (`own` as in `to_rgb`), through the codec, squashed to a square."""
    image = to_rgb(raw, name, own)
    if codec == "jpeg75":
        image = jpeg75(image)
    if image.size == (size, size):
        array = np.asarray(image)
    elif resize == "bicubic":
        array = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))
    else:
        array = tf1_bilinear(np.asarray(image), size)
    return array.transpose(2, 0, 1)


def resize_batch(images: Tensor, size: int, resize: str = "bicubic") -> Tensor:
    """(B, 3, h, w) uint8 on the CPU to (B, 3, size, size), with the very same resize as prepared images."""
    rows = [prepare_image(image.permute(1, 2, 0).numpy(), "image", size, resize=resize) for image in images]
    return torch.from_numpy(np.stack(rows))
