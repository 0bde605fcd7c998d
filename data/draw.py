"""Antialiased drawing on batches of square images, by signed distances.

Everything is float64 numpy: rounding to uint8 then gives the same bytes on any machine, since the few last bits in
which libraries differ practically never cross a rounding boundary. Lengths are pixels, angles radians, colours 0..1,
y grows downwards. `n` is the number of images, `s` their side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def local_grid(cx: Array, cy: Array, angle: Array, size: int) -> tuple[Array, Array]:
    """Pixel centres in each shape's own frame: two (n, s, s) arrays for shapes at (cx, cy) turned by `angle`.

    The first coordinate runs along the shape's axis, which points to (cos angle, sin angle) in the image.
    """
    centre = np.arange(size, dtype=np.float64) + 0.5
    dx = centre[None, None, :] - cx[:, None, None]
    dy = centre[None, :, None] - cy[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    return dx * cos + dy * sin, dy * cos - dx * sin


def sd_disc(u: Array, v: Array, radius: Array) -> Array:
    """Signed distance (negative inside) to discs of `radius` (n,)."""
    return np.sqrt(u * u + v * v) - radius[:, None, None]


def sd_box(u: Array, v: Array, half_u: Array, half_v: Array) -> Array:
    """Signed distance, chamfered at the corners, to boxes of half sides `half_u`, `half_v` (n,)."""
    return np.maximum(np.abs(u) - half_u[:, None, None], np.abs(v) - half_v[:, None, None])


def sd_triangle(u: Array, v: Array, half_len: Array, half_base: Array) -> Array:
    """Signed distance to isosceles triangles with the tip at u = +half_len and the base at u = -half_len."""
    length, base = 2.0 * half_len[:, None, None], half_base[:, None, None]
    flank = (np.abs(v) * length + (u - half_len[:, None, None]) * base) / np.sqrt(length**2 + base**2)
    return np.maximum(flank, -u - half_len[:, None, None])


def sd_ring(u: Array, v: Array, radius: Array) -> Array:
    """Signed distance to rings of outer `radius` (n,) with a line 0.4 radii wide."""
    return np.abs(np.sqrt(u * u + v * v) - 0.8 * radius[:, None, None]) - 0.2 * radius[:, None, None]


def paint(images: Array, distance: Array, colour: Array, where: NDArray[np.bool_] | None = None) -> None:
    """Blend `colour` (n, 3) into `images` (n, 3, s, s) in place wherever `distance` (n, s, s) is negative.

    A pixel is covered by clip(0.5 - distance, 0, 1): a one-pixel ramp over the edge. `where` (n,) picks images.
    """
    alpha = np.clip(0.5 - distance, 0.0, 1.0)
    if where is not None:
        alpha = alpha * where[:, None, None]
    images += alpha[:, None] * (colour[:, :, None, None] - images)


def gradients(rng: np.random.Generator, dark: NDArray[np.bool_], size: int, span: tuple[float, float]) -> Array:
    """Smooth backgrounds (n, 3, s, s): a linear ramp between two near colours in a random direction.

    Dark images draw the channels of both colours from `span`, light ones from its mirror image in 1 - `span`: the
    other end of the range is left to the foreground.
    """
    n = len(dark)
    ends = rng.uniform(*span, (n, 2, 3))
    ends = np.where(dark[:, None, None], ends, 1.0 - ends)
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    half = np.full(n, size / 2.0)
    along, _ = local_grid(half, half, angle, size)
    ramp = np.clip(along / (1.42 * size) + 0.5, 0.0, 1.0)[:, None]
    return ends[:, 0, :, None, None] * (1.0 - ramp) + ends[:, 1, :, None, None] * ramp


def contrast_colours(rng: np.random.Generator, dark: NDArray[np.bool_]) -> Array:
    """Foreground colours (n, 3) that stand out: bright on dark backgrounds, dark on light ones, with a free hue."""
    colour = rng.uniform(0.6, 1.0, (len(dark), 3))
    # One channel is released, so that hues vary while two channels keep the contrast.
    colour[np.arange(len(dark)), rng.integers(0, 3, len(dark))] = rng.uniform(0.2, 1.0, len(dark))
    return np.where(dark[:, None], colour, 1.0 - colour)


def to_uint8(images: Array) -> NDArray[np.uint8]:
    """Images in 0..1, clipped, as bytes."""
    return np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8)
