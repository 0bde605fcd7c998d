"""What every source gives: per source split a listing of keys, and a way to one example."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from data.base import DataError, MissingData
from data.images import Picture


class Example(NamedTuple):
    """One image (encoded bytes, or uint8 array), its label, and the name it has in error messages."""

    picture: Picture
    label: int
    name: str


class Listing(NamedTuple):
    """The examples of one source split. ``keys`` are tensorflow-datasets' keys; None: they are in final order."""

    size: int
    get: Callable[[int], Example]
    keys: Sequence[str | int] | None


def optional(module: str, package: str) -> ModuleType:
    """A module of the ``data`` extra; DataError that says what to type where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"this data set needs {package}: pip install -e '.[data]'") from error


def need(path: Path, what: str = "") -> Path:
    """``path`` if it exists; else MissingData that names it and what it is."""
    if not path.exists():
        raise MissingData(f"missing {path}{f' ({what})' if what else ''}")
    return path


def read_bytes(path: Path) -> bytes:
    """The content of a file; DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingData(f"missing {path}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def file_listing(
    files: Sequence[Path],
    labels: Sequence[int],
    keys: Sequence[str | int] | None,
    process: Callable[[bytes, str], bytes] = lambda content, name: content,
) -> Listing:
    """A listing of image files; ``keys`` None where they are in final order, ``process`` (bytes, name) edits them."""

    def get(i: int) -> Example:
        return Example(process(read_bytes(files[i]), str(files[i])), labels[i], str(files[i]))

    return Listing(len(files), get, keys)


def array_listing(images: Sequence[Picture], labels: Sequence[int], keys: Sequence[str | int], name: str) -> Listing:
    """A listing of arrays held in memory or in an open file."""

    def get(i: int) -> Example:
        return Example(images[i], int(labels[i]), f"{name}[{i}]")

    return Listing(len(labels), get, keys)


def read_list(path: Path, classes: int, home: Path | None = None) -> list[tuple[Path, int]]:
    """Image files and labels of a list of "path label" lines, the path relative to ``home`` (None: the list's folder).

    Raises DataError with file and line for a line that is not so, leaves the folder, or has a label out of range.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"missing or unreadable list {path} ({error})") from error
    home = path.parent if home is None else home
    root, out = home.resolve(), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdecimal():
            raise DataError(f"{path}:{number}: '{line}' is not 'path label'")
        if int(label) >= classes:
            raise DataError(f"{path}:{number}: label {label} is not in 0 to {classes - 1}")
        file = home / name
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{path}:{number}: '{name}' leaves {home}")
        out.append((file, int(label)))
    return out
