"""Files as they are written and opened here: whole or absent, through no link, and waiting for nothing.

A folder that a stranger hands over may hold a link where a file is to be written, or a named pipe where one is to be
read. What is written goes beside its place under a name that nobody can guess and is renamed; what is opened must be a
regular file. Only reading follows links: a data set or weights may well lie elsewhere.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from data.base import DataError

TEMPORARY = ".part"
"""What the names of files end in that are not whole yet."""

_KINDS = {
    stat.S_IFLNK: "link",
    stat.S_IFDIR: "folder",
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def _refusal(path: str | Path, mode: int) -> DataError:
    kind = _KINDS.get(stat.S_IFMT(mode), "thing of another kind")
    return DataError(f"{path} is a {kind}, not a file; move it away and run the same command again")


def regular(path: str, flags: int) -> int:
    """The `opener` of `open` for regular files alone: a pipe is not waited for, and writing follows no link.

    Raises:
        DataError: naming the path and what it is instead.
        OSError: as `os.open` does.
    """
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    flags |= os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if writes else 0)
    try:
        descriptor = os.open(path, flags, 0o666)  # what the umask leaves of it, as `open` has it
    except OSError as error:
        # A link under O_NOFOLLOW, a folder or a pipe that nobody reads: the reason is what lies there.
        mode = os.lstat(path).st_mode if os.path.lexists(path) else stat.S_IFREG
        if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and not writes):
            raise
        raise _refusal(path, mode) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise _refusal(path, mode)
    return descriptor


def read_bytes(path: Path) -> bytes:
    """The content of a regular file. Raises DataError for anything else, OSError where it cannot be read."""
    with open(path, "rb", opener=regular) as stream:
        return stream.read()


def appending(path: Path) -> TextIOWrapper:
    """A UTF-8 file to read and to append to, made if absent. Raises DataError where it is a link or no file."""
    return open(regular(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND), "a+", encoding="utf-8", newline="")


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, to be filled within and then given its name: readers see the old file or the new.

    It is on the disk before it has the name, has the mode that the umask says, and is removed where filling it fails.
    The folder is made if absent. A link at `path` is replaced, not followed.

    Raises:
        DataError: if `path` is something else than a file or a link.
        OSError: where the disk does not take it, with `path` as its file.
    """
    if os.path.lexists(path):
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise _refusal(path, mode)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        open(temporary, "xb", opener=regular).close()
        try:
            yield temporary
            with open(temporary, "rb+", opener=regular) as stream:
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.filename in (None, temporary, str(temporary)):
            error.filename, error.filename2 = str(path), None  # what a person knows it by
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, see `writing`."""
    with writing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all, see `writing`."""
    write_bytes(path, text.encode())


def remove_temporaries(path: Path) -> None:
    """Remove what killed writers of `path` left beside it; for the one process that may write it."""
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    for found in list(beside):
        if found.name.endswith(TEMPORARY) and found.name.startswith((f".{path.name}.", f"{path.name}.")):
            found.unlink(missing_ok=True)
