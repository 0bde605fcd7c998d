"""Few-shot and domain-generalisation sets in small, in the real list and folder formats.

    forked(["train.py", "dataset=oxford_pets_fs", ...], before=shrink)

Only this module knows smaller sizes than the official ones: all checks of the scripts are in place.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 4
COUNTS = {"val200": 12, "test": 8, "imagenet_v2": 8, "imagenet_sketch": 5, "imagenet_a": 4, "imagenet_r": 6}
SUBSET = {"imagenet_a": (1, 3), "imagenet_r": (0, 2)}
"""Classes of the small A and R."""


def shrink() -> None:
    """Replace the rows of the table by smaller ones, in place."""
    from data.shot_table import SHOT_ROWS

    for name, row in SHOT_ROWS.items():
        evals = {key: replace(part, count=COUNTS[key]) for key, part in row.evals.items()}
        SHOT_ROWS[name] = row._replace(num_classes=CLASSES, evals=evals)


def write_image(path: Path, label: int, number: int) -> None:
    """An image of its own size whose colour tells the class, noisy."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1000 * label + number)
    pixels = rng.integers(0, 90, (40 + number % 7, 50 + number % 5, 3))
    pixels[..., label % 3] += 60 * (1 + label // 3)
    Image.fromarray(pixels.astype(np.uint8)).save(path, quality=95)


def write_list(root: Path, path: str, images: str, lines: list[tuple[str, int]], make: bool = True) -> None:
    """A list file, and the images it names."""
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text("".join(f"{name} {label}\n" for name, label in lines))
    for number, (name, label) in enumerate(lines if make else []):
        write_image(root / images / name, label, number)


def make_set(row, root: Path) -> None:
    """All lists and images of a (shrunken) row under `root`, laid out like NOAH's data folder."""
    domain, pets = row.suite == "domain_generalization", row.id == "oxford_pets_fs"
    for shots in row.shots:
        for seed in (0, 1, 2):
            lines = [(f"n{c}/train {c}_{seed}_{shots}_{k}.JPEG", c) for c in range(CLASSES) for k in range(shots)]
            if domain and seed:  # as the real ones: a few images are in the selection list as well
                lines[0] = ("n0/select 0_0.JPEG", 0)
            if pets and shots == 1:
                lines = [line for line in lines for _ in range(2)]
            write_list(root, f"{row.lists}/train_meta.list.num_shot_{shots}.seed_{seed}", row.images, lines)
    for key, part in row.evals.items():
        kept = SUBSET.get(key, range(CLASSES))
        labels = [kept[i % len(kept)] for i in range(part.count)]
        if key == "val200":
            lines = [(f"n{c}/select {c}_{i // CLASSES}.JPEG", c) for i, c in enumerate(labels)]
        elif domain and key == "test":
            lines = [(f"ILSVRC_{i}.JPEG", c) for i, c in enumerate(labels)]
        else:
            lines = [(f"of {key}/n{c}/a b {i}.JPEG", c) for i, c in enumerate(labels)]
        write_list(root, part.path, part.images, lines)
