"""Sees every change of a file in this process before it happens (`sys.addaudithook`), without a change of the product.

What C++ and Rust write (torch.save to a path, safetensors) raises no audit event; the renames around it do, and kills
at random times and the real full disk reach into it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Before = Callable[[int, str, str], None]

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_ONE = {"os.remove": 1, "os.mkdir": 2, "os.rmdir": 1, "os.truncate": None}
"""Events whose first argument changes, and where the descriptor that a relative path starts from stands."""
_TWO = {"os.rename": (2, 3), "os.link": (2, 3), "os.symlink": (None, 2)}
"""Events whose first two arguments are a source and a target."""
HARMLESS = ("/dev/null", "/dev/tty", "/dev/shm/", "/proc/self/")
"""What may be opened for writing outside of the allowed folders, which may lie there too (a TMPDIR on a tmpfs)."""


def _path(value: object, descriptor: object = None) -> str | None:
    if not isinstance(value, str | bytes | os.PathLike):
        return None
    path = os.fsdecode(value)
    if isinstance(descriptor, int) and descriptor >= 0 and not os.path.isabs(path):
        path = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), path)
    return os.path.abspath(path)


def changed(event: str, args: tuple[Any, ...]) -> list[str]:
    """The absolute paths that an audit event is about to change; none for one that only reads."""
    if event == "open":
        found = [_path(args[0])] if isinstance(args[2], int) and args[2] & _WRITES else []
    elif event in _ONE:
        at = _ONE[event]
        found = [_path(args[0], None if at is None else args[at])]
        if event == "os.mkdir" and found[0] is not None and os.path.lexists(found[0]):
            return []  # something is there already
    elif event in _TWO:
        source, target = _TWO[event]
        found = [_path(args[0], args[source])] if source is not None and event == "os.rename" else []
        found.append(_path(args[1], args[target]))
    else:
        return []
    return [path for path in found if path is not None and not _below_a_file(path)]


def _below_a_file(path: str) -> bool:
    """Whether the system itself refuses any change of `path`, since a file lies where a folder of it would."""
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return not os.path.isdir(folder)


def real(path: str) -> str:
    """Where a change of `path` lands: links in its folders are followed, and one that it is itself as `open` does."""
    return os.path.realpath(path)


class Watch:
    """Counts the changes of files, tells of those outside of `allowed`, and acts before each.

    Args:
        tell: gets a line for every change outside, which is then refused: this machine is not the victim.
        allowed: folders that a command may change.
        before: called with the number of a change, from 1, its path and audit event; what it raises the change does.
    """

    def __init__(self, tell: Callable[[str], object], allowed: list[Path], before: Before | None = None) -> None:
        self.count = 0
        self._tell, self._before = tell, before
        self._allowed = [os.path.realpath(folder) for folder in allowed]
        self._busy = False

    def install(self) -> None:
        """Watch from now on; there is no end to it but that of the process."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self._busy or not (event == "open" or event in _ONE or event in _TWO):
            return
        self._busy = True
        try:
            for path in changed(event, args):
                follows = event == "open" and not args[2] & os.O_NOFOLLOW
                where = real(path) if follows else os.path.join(real(os.path.dirname(path)), Path(path).name)
                if not any(where == a or where.startswith(f"{a}/") for a in self._allowed):
                    if path.startswith(HARMLESS):
                        continue
                    self._tell(f"{event} {path}")
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
                self.count += 1
                if self._before is not None:
                    self._before(self.count, path, event)
                break  # a rename is one change
        finally:
            self._busy = False


def kill_at(number: int, name: str) -> Before:
    """End this process by a signal right before one of its changes."""

    def before(n: int, path: str, event: str) -> None:
        if n == number:
            os.kill(os.getpid(), signal.Signals[f"SIG{name}"])

    return before


def full_from(number: int) -> Before:
    """The disk is full from one of the changes on: files are neither made nor opened; they are deleted and renamed."""

    def before(n: int, path: str, event: str) -> None:
        if n >= number and event in ("open", "os.mkdir", "os.symlink"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    return before


def kill_before(name: str) -> Before:
    """End this process right before the first change of a file whose name holds `name`."""

    def before(n: int, path: str, event: str) -> None:
        if name in Path(path).name:
            os.kill(os.getpid(), signal.SIGKILL)

    return before
