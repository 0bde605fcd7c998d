"""What the readers of a user's files share: every fault is one DataError that names the file and the place in it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.base import DataError, MissingData


@contextmanager
def faults(said: str) -> Iterator[None]:
    """What goes wrong while a file is read or parsed, as DataError: ``said`` (place and fault), the cause, the remedy.

    A DataError inside is complete already, and a refused permission is no damage: both pass.
    """
    try:
        yield
    except (DataError, PermissionError, MemoryError):
        raise
    except Exception as error:  # readers of binary formats raise whatever they meet in a damaged file
        raise DataError(f"{said} ({str(error) or type(error).__name__}); fetch it again") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file; DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingData(f"missing {path}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def read_text(path: Path) -> str:
    """The content of a text file; DataError when it cannot be read or is no text."""
    with faults(f"{path} is no text"):
        return read_bytes(path).decode()


def read_lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank, stripped, each after its place "path:number"."""
    rows = enumerate(read_text(path).splitlines(), 1)
    return [(f"{path}:{number}", line.strip()) for number, line in rows if line.strip()]


def read_label(text: str, classes: int, place: str, first: int = 0) -> int:
    """The class (from 0) written as ``text``, counted from ``first``; DataError with ``place`` out of range."""
    if not (text.isascii() and text.isdecimal()) or not first <= int(text) < first + classes:
        raise DataError(f"{place}: label {text} is not in {first} to {first + classes - 1}")
    return int(text) - first


def inside(home: Path, named: Iterable[tuple[str, str]]) -> list[Path]:
    """The files below ``home`` of (place, name) pairs; they need not exist.

    Raises DataError with the place of a name that leaves ``home``: by "..", as an absolute path, or through a link.
    """
    root, out = home.resolve(), []
    for place, name in named:
        file = home / name
        with faults(f"{place}: '{name}' is no file name"):
            if not file.resolve().is_relative_to(root):
                raise DataError(f"{place}: '{name}' leaves {home}")
        out.append(file)
    return out


def files_below(home: Path) -> list[Path]:
    """All files at any depth below ``home``, sorted; links to folders are not followed but given like files.

    Raises OSError where a folder cannot be read, which ``glob`` passes over in silence.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for folder, folders, files in os.walk(home, onerror=fail):
        here = Path(folder)
        found += [here / name for name in files] + [path for name in folders if (path := here / name).is_symlink()]
    return sorted(found)
