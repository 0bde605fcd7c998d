"""Labels of the tasks that do not use a stored class: bins and groups of VTAB's structured tasks.

Formulas of google-research/task_adaptation: a bin is the largest i with threshold[i] < value, strict, in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

CLEVR_THRESHOLDS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)
KITTI_THRESHOLDS = (-100.0, 8.0, 20.0, 999.0)
NO_VEHICLE = 1000.0
VEHICLES = ("Car", "Van", "Truck")


def bin_label(value: float, thresholds: Sequence[float]) -> int:
    """The left-open, right-closed bin of `value`; raises ValueError where it lies in none."""
    label = int(np.searchsorted(np.asarray(thresholds, np.float32), np.float32(value), side="left")) - 1
    if label < 0 or not np.isfinite(value):
        raise ValueError(f"distance {value} is in no bin; bins begin above {thresholds[0]}")
    return label


def clevr_count(objects: int) -> int:
    """3 to 10 objects are classes 0 to 7."""
    return objects - 3


def clevr_distance(depths: Iterable[float]) -> int:
    """Class of the closest object; `depths` are the third `pixel_coords` of all objects."""
    return bin_label(min(depths), CLEVR_THRESHOLDS)


def kitti_distance(depths: Iterable[float]) -> int:
    """Class of the closest vehicle; `depths` (metres) are z of all cars, vans and trucks; none is class 3."""
    return bin_label(min(depths, default=NO_VEHICLE), KITTI_THRESHOLDS)


def dsprites_location(x_position: int) -> int:
    """32 positions in 16 classes."""
    return x_position // 2


def dsprites_orientation(orientation: int) -> int:
    """40 orientations in 16 classes of alternately 3 and 2."""
    return 2 * orientation // 5
