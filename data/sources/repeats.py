"""The same image twice: repeats are dropped, contradictions refused, copies under other names counted."""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.base import DataError
from data.sources.base import Row
from data.sources.reading import read_bytes, readable, real_paths

log = logging.getLogger(f"glora.{__name__}")


def distinct(rows: Sequence[Row], source: Path) -> list[Row]:
    """Each image of `source`, a list or a folder, once; says how many repeats there were.

    Raises:
        DataError: with both locations of a file that has two labels.
    """
    real, first, kept, repeats = real_paths(), dict[str, Row](), list[Row](), list[Row]()
    for row in rows:
        known = first.setdefault(real(row.file), row)
        if known.label != row.label:
            raise DataError(f"{known.location} and {row.location} give one image two labels, {known.label} and "
                            f"{row.label}: {row.file}; keep one of them")  # fmt: skip
        (kept if known is row else repeats).append(row)
    if repeats:
        log.warning("%s: %d repeats are dropped, the first is %s", source, len(repeats), repeats[0].location)
    return kept


def check_disjoint(parts: Mapping[str, Sequence[Row]]) -> None:
    """Raise DataError with both locations of the first image that two parts share, and how many they share."""
    real = real_paths()
    files = {part: {real(row.file): row for row in rows} for part, rows in parts.items()}
    names = list(files)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            shared = [file for file in files[other] if file in files[one]]
            if shared:
                locations = f"{files[one][shared[0]].location} and {files[other][shared[0]].location}"
                raise DataError(f"{one} and {other} share {len(shared)} images, the first is {shared[0]} "
                                f"({locations}); keep each image in one of them")  # fmt: skip


def warn_of_copies(splits: Mapping[str, Sequence[tuple[Path, int]]], name: str) -> None:
    """Say how many images of a data set called `name` have the content of another, and where that spoils a result.

    Only files of one size are read.

    Raises:
        DataError: if one cannot be.
    """
    by_size, by_content = defaultdict(list), defaultdict(list)
    for split, rows in splits.items():
        for file, label in rows:
            with readable(file):
                by_size[file.stat().st_size].append((file, label, split))
    for members in by_size.values():
        for member in members if len(members) > 1 else ():
            by_content[hashlib.sha256(read_bytes(member[0])).digest()].append(member)
    groups = [members for members in by_content.values() if len(members) > 1]
    if not groups:
        return
    copies, (one, other) = sum(map(len, groups)) - len(groups), groups[0][:2]
    labels, across = (sum(len({member[i] for member in members}) > 1 for members in groups) for i in (1, 2))
    log.warning(
        "%s: %d images have the content of another under a second name, the first are %s and %s; of such contents, %d "
        "have more than one label and %d lie in more than one of train, val and test",
        name, copies, one[0], other[0], labels, across,
    )  # fmt: skip
