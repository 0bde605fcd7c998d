"""The split lists of the few-shot and domain-generalisation sets, read and checked."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data.base import DataError, MissingData
from data.shot_table import DOMAIN, ShotRow
from data.sources.base import Row, read_rows
from data.sources.repeats import distinct

log = logging.getLogger(f"glora.{__name__}")

Rows = list[tuple[Path, int]]
"""Image files with their labels."""


class TrainList(NamedTuple):
    """A K-shot list: its images, how many repeated lines it had, and where the selection list holds its images."""

    rows: Rows
    doubled: int
    overlap: tuple[int, ...]
    digest: str


def file_name(rows: Rows, i: int) -> str:
    """The name that an image has in messages."""
    return str(rows[i][0])


def digest(parts: Sequence[Rows], root: Path) -> str:
    """sha256 (hex) of the names and labels of lists, in order; the same on any machine."""
    found = hashlib.sha256()
    for rows in parts:
        for file, label in rows:
            found.update(f"{file.relative_to(root).as_posix()} {label}\n".encode())
        found.update(b"--\n")
    return found.hexdigest()


def _listed(root: Path, path: str, images: str, classes: int) -> list[Row]:
    if not (root / path).is_file():
        raise MissingData(f"missing list {root / path}")
    return read_rows(root / path, classes, root / images)


def _all_there(rows: Rows, source: Path) -> None:
    for file, _ in rows:
        if not file.is_file():
            raise MissingData(f"missing {file}, named in {source}")


def train_list_path(row: ShotRow, shots: int, seed: int) -> str:
    """The list of one number of shots and one list seed, below the root."""
    return f"{row.lists}/train_meta.list.num_shot_{shots}.seed_{seed}"


def read_eval(row: ShotRow, root: Path, name: str, files: bool = True) -> Rows:
    """The images of an evaluation list, checked for count and, with `files`, for files.

    Images of the ImageNet validation set are found flat or in a folder per class.

    Raises:
        DataError: if the list or an image is missing, or the list is not of the official size.
    """
    part = row.evals[name]
    rows = [(each.file, each.label) for each in _listed(root, part.path, part.images, row.num_classes)]
    if len(rows) != part.count:
        raise DataError(f"{root / part.path} has {len(rows)} lines; {name} of {row.id} has {part.count}")
    if row.suite == DOMAIN and name == "test":
        names = _class_names(row, root)
        # Both layouts are in use: val/<file>, and val/<wnid>/<file> as many loaders want it.
        rows = [(file if file.is_file() or not (nested := file.parent / names[label] / file.name).is_file() else nested,
                 label) for file, label in rows]  # fmt: skip
    if files:
        _all_there(rows, root / part.path)
    return rows


def _class_names(row: ShotRow, root: Path) -> dict[int, str]:
    """The wnid of each label, from the first training list; labels must be ranks of the sorted wnids."""
    path = train_list_path(row, row.shots[-1], 0)
    names = {each.label: each.file.parent.name for each in _listed(root, path, row.images, row.num_classes)}
    if [names[label] for label in sorted(names)] != sorted(names.values()) or len(names) != row.num_classes:
        raise DataError(f"{root / path}: the labels are not the ranks of {row.num_classes} sorted class folders")
    return names


def read_train(row: ShotRow, root: Path, shots: int, seed: int) -> TrainList:
    """A K-shot list, with repeated lines dropped, checked for `shots` images per class and against val and test.

    The one-shot lists of oxford-pets name every image twice: each is used once. Where the selection list shares
    images with the training list (ImageNet, list seeds 1 and 2), `overlap` has their indices in the selection list,
    which `load_shots` leaves out: training images select nothing.

    Raises:
        DataError: if a check fails, or a list or an image is missing.
    """
    path = root / train_list_path(row, shots, seed)
    listed = _listed(root, train_list_path(row, shots, seed), row.images, row.num_classes)
    rows = [(each.file, each.label) for each in distinct(listed, path)]
    counts = Counter(label for _, label in rows)
    for label in range(row.num_classes):
        if counts[label] != shots:
            raise DataError(f"{path} has {counts[label]} images of class {label}, not {shots}")
    evals = {name: read_eval(row, root, name, files=False) for name in row.evals}
    used = {file for file, _ in rows}
    for name, part in evals.items():
        if name != "val200" and any(file in used for file, _ in part):
            raise DataError(f"{path} and {root / row.evals[name].path} share images")
    overlap = tuple(i for i, (file, _) in enumerate(evals["val200"]) if file in used)
    if overlap:
        if row.suite != DOMAIN:
            raise DataError(f"{path} and {root / row.evals['val200'].path} share {len(overlap)} images")
        log.warning("%s: %d of its images are in the selection list and are left out of it", path, len(overlap))
    _all_there(rows, path)
    return TrainList(rows, len(listed) - len(rows), overlap, digest([rows, *evals.values()], root))
