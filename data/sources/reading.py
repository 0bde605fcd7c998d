"""What the readers of a user's files share: every fault is one DataError that names the file and the place in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from data.base import DataError, MissingData, error_text
from data.files import read_bytes as read_file

JUNK = {
    *("__macosx", "icon\r", "lost+found", "__pycache__"),  # archives made on macOS, its folder icons, disks, Python
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
    *("@eadir", "#recycle", "@recycle"),  # network storage
}
"""What systems leave among images, in lower case, beside hidden names (.DS_Store, .ipynb_checkpoints)."""


@contextmanager
def faults(message: str) -> Iterator[None]:
    """What goes wrong while a file is read or parsed, as DataError: `message` (where and what), the cause, the remedy.

    A DataError inside is complete already, and a refused permission is no damage: both pass.
    """
    try:
        yield
    except (DataError, PermissionError, MemoryError):
        raise
    except Exception as error:  # readers of binary formats raise whatever they meet in a damaged file
        raise DataError(f"{message} ({error_text(error)}); fetch it again") from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """What the disk says of a file, as DataError: MissingData where it is not there."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingData(f"missing {path}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def read_bytes(path: Path) -> bytes:
    """The content of a file; DataError when it cannot be read."""
    with readable(path):
        return read_file(path)


def read_text(path: Path) -> str:
    """The content of a text file, without the mark that editors put before UTF-8; DataError when it is no such text."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        cause = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise DataError(f"{path} is not UTF-8 text ({cause}); save it as UTF-8, or fetch it again") from error


def read_lines(path: Path) -> list[tuple[str, str]]:
    """The lines of a text file that are not blank, stripped, each after its location "path:number"."""
    rows = enumerate(read_text(path).splitlines(), 1)
    return [(f"{path}:{number}", line.strip()) for number, line in rows if line.strip()]


def read_label(text: str, classes: int, location: str, first: int = 0) -> int:
    """The class (from 0) written as `text`, counted from `first`; DataError with `location` out of range."""
    digits = text.isascii() and text.isdecimal() and len(text) < 20  # Python reads a few thousand digits at most
    if not digits or not first <= int(text) < first + classes:
        shown = text if len(text) < 40 else f"{text[:40]}..."
        raise DataError(f"{location}: label {shown} is not in {first} to {first + classes - 1}")
    return int(text) - first


def inside(root: Path, named: Iterable[tuple[str, str]]) -> list[Path]:
    """The files below `root` of (location, name) pairs; they need not exist.

    Raises:
        DataError: with the location of a name that leaves `root`: by "..", as an absolute path, or through a link.
    """
    real, out = root.resolve(), []
    for location, name in named:
        file = root / name
        with faults(f"{location}: '{name}' is no file name"):
            if not file.resolve().is_relative_to(real):
                raise DataError(f"{location}: '{name}' leaves {root}")
        out.append(file)
    return out


def real_paths() -> Callable[[Path], str]:
    """A function from a name to the file behind it, without links and "..", that looks up each folder once."""
    resolved: dict[str, str] = {}

    def real(file: Path) -> str:
        folder, name = os.path.split(file)
        if os.path.islink(file):
            return os.path.realpath(file)
        if folder not in resolved:
            resolved[folder] = os.path.realpath(folder)
        return os.path.join(resolved[folder], name)

    return real


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name was put there by a system or an editor: hidden ones are, and `JUNK`."""
    return name.startswith(".") or name.lower() in JUNK


def files_below(root: Path) -> list[Path]:
    """All files at any depth below `root`, sorted, without junk; links to folders are not followed but given like
    files.

    Raises:
        OSError: if a folder cannot be read, which `glob` passes over in silence.
    """

    def fail(error: OSError) -> None:
        raise error

    found = []
    for folder, folders, files in os.walk(root, onerror=fail):
        here = Path(folder)
        folders[:] = [name for name in folders if not is_junk(name)]
        found += [here / name for name in files if not is_junk(name)]
        found += [path for name in folders if (path := here / name).is_symlink()]
    return sorted(found)
