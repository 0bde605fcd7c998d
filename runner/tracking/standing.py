"""Where the job of this process stands: said when it is stopped, and when a disk fails without naming a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Standing:
    """The run directory of a job, and what of the loop that runs is on the disk, as in "epoch 3 of 60"."""

    directory: Path | None = None
    kept: str = ""

    def __str__(self) -> str:
        if self.directory is None:
            return "the same command goes on"
        kept = f": {self.kept}" if self.kept else " keeps what is finished"
        return f"{self.directory}{kept}; the same command goes on from there"


_current = Standing()


def current() -> Standing:
    """The job of this process."""
    return _current


def begin(directory: Path | None = None) -> None:
    """Another job begins in this process; its directory may not be known yet."""
    _current.directory, _current.kept = directory, ""


def keep(unit: str, done: int, total: int, steps: int = 0) -> None:
    """So many epochs or generations are on the disk, and so many steps of the next one."""
    if steps:
        _current.kept = f"{unit} {done} of {total} and {steps} steps of the next are kept"
    else:
        _current.kept = f"{unit} {done} of {total} is kept" if done else f"no {unit} of {total} is kept yet"


def pause() -> None:
    """The loop has ended; what follows it keeps no steps."""
    _current.kept = ""
