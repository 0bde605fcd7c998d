"""What every source gives: per source split a listing of keys, and a way to one example."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol, TypeVar

from data.base import DataError, MissingData
from data.decode import RawImage
from data.sources.reading import faults, inside, read_bytes, read_label, read_lines

T = TypeVar("T", covariant=True)


class Example(NamedTuple):
    """One image (encoded bytes, or uint8 array), its label, and the name it has in error messages."""

    image: RawImage
    label: int
    name: str


class Row(NamedTuple):
    """A user's image file, its label, and where that is from: a line as "list.txt:3", or the file."""

    file: Path
    label: int
    location: str


class Listing(NamedTuple):
    """The examples of one source split. `keys` are tensorflow-datasets' keys; None: they are in final order."""

    size: int
    get: Callable[[int], Example]
    keys: Sequence[str | int] | None


def optional(module: str, package: str) -> ModuleType:
    """A module of the `data` extra; DataError that says what to type where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"this data set needs {package}: pip install -e '.[data]'") from error


def need(path: Path, what: str = "") -> Path:
    """`path` if it exists; else MissingData that names it and what it is."""
    if not path.exists():
        raise MissingData(f"missing {path}{f' ({what})' if what else ''}")
    return path


def file_listing(
    files: Sequence[Path],
    labels: Sequence[int],
    keys: Sequence[str | int] | None,
    process: Callable[[bytes, str], bytes] = lambda content, name: content,
) -> Listing:
    """A listing of image files; `keys` None where they are in final order, `process` (bytes, name) edits them."""

    def get(i: int) -> Example:
        return Example(process(read_bytes(files[i]), str(files[i])), labels[i], str(files[i]))

    return Listing(len(files), get, keys)


class Indexed(Protocol[T]):
    """What can be counted and indexed: a list, an array, an array in an open HDF5 file."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> T: ...


def array_listing(images: Indexed[RawImage], labels: Indexed[int], keys: Sequence[str | int], name: str) -> Listing:
    """A listing of arrays held in memory or in an open file; DataError where there is not one label per image."""
    if len(images) != len(labels):
        raise DataError(f"{name} has {len(images)} images and {len(labels)} labels; fetch it again")

    def get(i: int) -> Example:
        with faults(f"{name}[{i}] is damaged"):  # an open file is only read here
            return Example(images[i], int(labels[i]), f"{name}[{i}]")

    return Listing(len(labels), get, keys)


def read_rows(path: Path, classes: int, root: Path | None = None) -> list[Row]:
    """The images of a list of "path label" lines, the path relative to `root` (None: the list's folder).

    Raises:
        DataError: with file and line for a line that is not so, leaves the folder, or has a label out of range.
    """
    rows = []
    for location, line in read_lines(path):
        name, label = [*line.rsplit(None, 1), ""][:2]
        if not label.isdecimal():
            raise DataError(f"{location}: '{line[:200]}' is not 'path label'")
        rows.append((location, name, read_label(label, classes, location)))
    files = inside(path.parent if root is None else root, [(location, name) for location, name, _ in rows])
    return [Row(file, label, location) for file, (location, _, label) in zip(files, rows, strict=True)]
