"""The specialized mini task: eight families of procedural texture that differ in statistics, not in colour.

Every family is a field of noise filtered in the frequency domain at a random scale and turn, mapped to two random
colours at equal mean and spread. What tells them apart is how many orientations carry energy and how grey values are
shaped: nothing that a mean colour, one frequency or one orientation gives away.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.draw import Array

SIZE = 64
FREQUENCY = (5.0, 9.0)  # cycles per image of the carrier
RADIAL_WIDTH = 0.22  # spread of the frequency ring, as a share of the carrier
ANGULAR_WIDTH = 0.22  # spread of an orientation in radians
CONTRAST = (0.16, 0.26)  # spread of grey values around the middle
NOISE = 0.02  # standard deviation of the pixel noise


def _spectrum(rng: np.random.Generator, orientations: int) -> Array:
    """One noise field (s, s), mean 0, spread 1, with energy at `orientations` equally spaced directions (0: all)."""
    axis = np.fft.fftfreq(SIZE) * SIZE
    fy, fx = np.meshgrid(axis, axis, indexing="ij")
    radius, angle = np.hypot(fx, fy), np.arctan2(fy, fx)
    carrier = rng.uniform(*FREQUENCY)
    gain = np.exp(-0.5 * ((radius - carrier) / (RADIAL_WIDTH * carrier)) ** 2)
    if orientations:
        # Directions are counted on the half turn: a wave and its mirror image are one orientation.
        period = np.pi / orientations
        offset = (angle - rng.uniform(0.0, np.pi) + 0.5 * period) % period - 0.5 * period
        gain = gain * np.exp(-0.5 * (offset / ANGULAR_WIDTH) ** 2)
    gain[0, 0] = 0.0
    field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(SIZE, SIZE))) * gain).real
    unit: Array = field / field.std()
    return unit


def _cells(rng: np.random.Generator) -> Array:
    """Distance to the borders of random cells, about as large as the carrier's waves."""
    pitch = SIZE / rng.uniform(*FREQUENCY)
    steps = int(np.ceil(SIZE / pitch)) + 2
    base = (np.stack(np.meshgrid(np.arange(steps), np.arange(steps)), -1).reshape(-1, 2) - 0.5) * pitch
    points = base + rng.uniform(-0.4, 0.4, base.shape) * pitch
    centre = np.arange(SIZE) + 0.5
    gaps = np.hypot(centre[None, None, :] - points[:, 0, None, None], centre[None, :, None] - points[:, 1, None, None])
    nearest = np.partition(gaps, 1, axis=0)
    distance: Array = np.minimum(nearest[1] - nearest[0], 0.5 * pitch)
    return distance


FAMILIES: tuple[tuple[str, Callable[[np.random.Generator], Array]], ...] = (
    ("cloudy: every orientation", lambda rng: _spectrum(rng, 0)),
    ("grating: one orientation", lambda rng: _spectrum(rng, 1)),
    ("weave: two orientations", lambda rng: _spectrum(rng, 2)),
    ("honeycomb: three orientations", lambda rng: _spectrum(rng, 3)),
    ("patches: every orientation, two grey levels", lambda rng: np.tanh(4.0 * _spectrum(rng, 0))),
    ("veins: bright lines along zero crossings", lambda rng: np.exp(-3.0 * np.abs(_spectrum(rng, 0)))),
    ("spots: rare bright peaks", lambda rng: np.exp(1.3 * _spectrum(rng, 0))),
    ("cells: straight borders around random points", _cells),
)


def render_textures(rng: np.random.Generator, labels: NDArray[np.int64]) -> Array:
    """Images (n, 3, s, s) in about 0..1: family `label` between two random colours, at a random contrast."""
    images = np.empty((len(labels), 3, SIZE, SIZE))
    for i, label in enumerate(labels):
        field = FAMILIES[int(label)][1](rng)
        # A coin decides the sign: which of two colours is the bright one says nothing about the family.
        field = (field - field.mean()) / field.std() * (1.0 if rng.random() < 0.5 else -1.0)
        middle = rng.uniform(0.35, 0.65, 3)
        swing = rng.uniform(*CONTRAST) * (1.0 + rng.uniform(-0.5, 0.5, 3))
        images[i] = middle[:, None, None] + swing[:, None, None] * np.clip(field, -2.5, 2.5)[None]
    return images + rng.normal(0.0, NOISE, images.shape)
