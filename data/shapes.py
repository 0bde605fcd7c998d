"""The four structured mini tasks: how many, where, turned how, how far away.

They copy what VTAB's structured group asks of CLEVR, dSprites, smallNORB and KITTI. Colours, backgrounds, sizes, kinds
and the free coordinates vary, so that a mean colour does not tell the label. The constants below set the difficulty;
they were tuned so that a small ViT learns each task from 800 images when all its weights train, while a linear probe
on its frozen features does not. Change `mini.VERSION` with them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data.draw import Array, contrast_colours, gradients, local_grid, paint, sd_box, sd_disc, sd_ring, sd_triangle

SIZE = 64
NOISE = 0.01  # standard deviation of the pixel noise; larger values bury the target for a small backbone
BACKGROUND = (0.0, 0.25)  # channels of the dark backgrounds' two end colours
LIGHT_SHARE = 0.0  # share of images with dark shapes on a light background

COUNT_MAX = 6  # labels 0..5 are one to six shapes
COUNT_RADIUS = (4.0, 7.0)
COUNT_GAP = 4.0  # least free space between two shapes

LOCATION_BINS = 8  # of the horizontal position, as dSpr-Loc asks
LOCATION_RADIUS = (7.0, 9.0)
LOCATION_FILL = 0.6  # share of a bin that is used: the rest is a gap between neighbouring bins

ORIENTATION_BINS = 8  # over the full turn
ORIENTATION_FILL = 0.6
ORIENTATION_HALF_LENGTH = (13.0, 19.0)
ORIENTATION_ASPECT = (0.35, 0.55)  # half base over half length

DISTANCE_BINS = 6
DISTANCE_HORIZON = (12.0, 18.0)  # row of the horizon
DISTANCE_DROP = (8.0, 44.0)  # rows from the horizon to the foot of the nearest solid, divided evenly into the bins
DISTANCE_FILL = 0.6
DISTANCE_SIZE = (0.35, 0.6)  # height over drop: the solids differ in true size
DISTANCE_OTHERS = 2  # at most so many farther solids

_KINDS = 4


def _spread(rng: np.random.Generator, labels: NDArray[np.int64], fill: float) -> Array:
    """A value in [label, label + 1) per image, uniform within the middle `fill` of its bin."""
    return labels + 0.5 + rng.uniform(-0.5 * fill, 0.5 * fill, len(labels))


def _canvas(rng: np.random.Generator, n: int) -> tuple[Array, NDArray[np.bool_]]:
    """Smooth backgrounds (n, 3, s, s) and which of them are dark."""
    dark = rng.random(n) >= LIGHT_SHARE
    return gradients(rng, dark, SIZE, BACKGROUND), dark


def _stamp(images: Array, cx: Array, cy: Array, angle: Array, radius: Array, kind: NDArray[np.int64], colour: Array,
           where: NDArray[np.bool_] | None = None) -> None:  # fmt: skip
    """Paint one disc, square, triangle or ring (by `kind`) per image, none larger than `radius`."""
    u, v = local_grid(cx, cy, angle, SIZE)
    side = 0.8 * radius
    distances = (sd_disc(u, v, radius), sd_box(u, v, side, side), sd_triangle(u, v, 0.85 * radius, radius),
                 sd_ring(u, v, radius))  # fmt: skip
    paint(images, np.choose(kind[:, None, None], distances), colour, where)


def _finish(rng: np.random.Generator, images: Array) -> Array:
    return images + rng.normal(0.0, NOISE, images.shape)


def _place_apart(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Centres (count, 2) and radii (count,) of shapes that keep COUNT_GAP between them and from the border."""
    while True:
        radii = rng.uniform(*COUNT_RADIUS, count)
        centres: list[Array] = []
        for index in range(count):
            for _ in range(60):
                centre = rng.uniform(radii[index] + 1.0, SIZE - radii[index] - 1.0, 2)
                if all(np.hypot(*(centre - other)) >= radii[index] + radii[j] + COUNT_GAP
                       for j, other in enumerate(centres)):  # fmt: skip
                    centres.append(centre)
                    break
            else:
                break  # no room left: begin again with new radii
        if len(centres) == count:
            return np.array(centres), radii


def render_count(rng: np.random.Generator, labels: NDArray[np.int64]) -> Array:
    """Images (n, 3, s, s) in 0..1 with `label + 1` shapes of mixed kinds and colours, well apart."""
    n = len(labels)
    images, dark = _canvas(rng, n)
    centres, radii = np.zeros((n, COUNT_MAX, 2)), np.ones((n, COUNT_MAX))
    for i, label in enumerate(labels):
        centres[i, : label + 1], radii[i, : label + 1] = _place_apart(rng, int(label) + 1)
    for slot in range(COUNT_MAX):
        _stamp(images, centres[:, slot, 0], centres[:, slot, 1], rng.uniform(0.0, 2.0 * np.pi, n), radii[:, slot],
               rng.integers(0, _KINDS, n), contrast_colours(rng, dark), where=labels >= slot)  # fmt: skip
    return _finish(rng, images)


def render_location(rng: np.random.Generator, labels: NDArray[np.int64]) -> Array:
    """Images with one shape whose horizontal position falls into bin `label`; its height in the image is free."""
    n = len(labels)
    images, dark = _canvas(rng, n)
    radius = rng.uniform(*LOCATION_RADIUS, n)
    margin = LOCATION_RADIUS[1]  # the same for all sizes, so that no bin is reserved for small shapes
    cx = margin + _spread(rng, labels, LOCATION_FILL) / LOCATION_BINS * (SIZE - 2.0 * margin)
    cy = rng.uniform(margin, SIZE - margin, n)
    _stamp(images, cx, cy, rng.uniform(0.0, 2.0 * np.pi, n), radius, rng.integers(0, _KINDS, n),
           contrast_colours(rng, dark))  # fmt: skip
    return _finish(rng, images)


def render_orientation(rng: np.random.Generator, labels: NDArray[np.int64]) -> Array:
    """Images with one long triangle that points into bin `label` of the full turn, bin 0 centred on the right."""
    n = len(labels)
    images, dark = _canvas(rng, n)
    half_length = rng.uniform(*ORIENTATION_HALF_LENGTH, n)
    half_base = half_length * rng.uniform(*ORIENTATION_ASPECT, n)
    angle = (_spread(rng, labels, ORIENTATION_FILL) - 0.5) / ORIENTATION_BINS * 2.0 * np.pi
    margin = ORIENTATION_HALF_LENGTH[1] + 2.0
    cx, cy = rng.uniform(margin, SIZE - margin, (2, n))
    u, v = local_grid(cx, cy, angle, SIZE)
    paint(images, sd_triangle(u, v, half_length, half_base), contrast_colours(rng, dark))
    return _finish(rng, images)


def render_distance(rng: np.random.Generator, labels: NDArray[np.int64]) -> Array:
    """A ground plane with one to three solids standing on it; `label` bins how far the nearest one is (0: nearest).

    As for KITTI's closest vehicle and CLEVR's closest object, a nearer solid stands lower in the image and looks
    larger; true sizes vary, the horizon moves, and the farther solids may not answer for the nearest.
    """
    n = len(labels)
    images, dark = _canvas(rng, n)
    horizon = rng.uniform(*DISTANCE_HORIZON, n)
    ground = np.arange(SIZE)[None, :, None] - horizon[:, None, None] + np.zeros((1, 1, SIZE))
    paint(images, -ground, rng.uniform(0.25, 0.45, (n, 1)) * np.ones(3))
    low, high = DISTANCE_DROP
    # The drop below the horizon is the inverse of the distance; its bins are even in the image.
    nearest = low + _spread(rng, DISTANCE_BINS - 1 - labels, DISTANCE_FILL) / DISTANCE_BINS * (high - low)
    extra = rng.integers(0, DISTANCE_OTHERS + 1, n)
    for slot in reversed(range(DISTANCE_OTHERS + 1)):
        drop = nearest if slot == 0 else rng.uniform(0.35, 0.75, n) * nearest
        radius = 0.5 * drop * rng.uniform(*DISTANCE_SIZE, n)
        cx = rng.uniform(radius, SIZE - radius)
        _stamp(images, cx, horizon + drop - radius, np.zeros(n), radius, rng.integers(0, 2, n),
               contrast_colours(rng, dark), where=extra >= slot)  # fmt: skip
    return _finish(rng, images)
