"""Folders of one's own images, as a user has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers.vtab_raw import save


def class_folders(root: Path, per_class: int = 30) -> Path:
    """A folder of images for each of three classes."""
    for label, name in enumerate(("ant", "bee", "cat")):
        for i in range(per_class):
            save(root / name / f"{i:03d}.png", np.full((5, 7, 3), 80 * label + i % 40, np.uint8))
    return root


def fill(root: Path, *folders: str, count: int = 6) -> Path:
    """Images in each folder, all of different content."""
    for folder in folders:
        for i in range(count):
            save(root / folder / f"{i}.png")
    return root
