"""How every script ends when its output can no longer be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

STDOUT = "standard output"


def drop_output() -> None:
    """Send standard output nowhere from now on, what Python still flushes at its end included."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def quiet_end() -> Iterator[None]:
    """End the script without a traceback, with status 1, when nobody reads on (`| head`).

    Raises:
        OSError: naming standard output where that is what cannot be written, on a full disk for example.
    """
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        drop_output()
        sys.exit(1)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()  # what is still in its buffer would fail again at the end of the process
        error.filename = STDOUT
        raise
