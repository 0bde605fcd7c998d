"""How every script ends when the reader of its output or the person at the keyboard has had enough."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def drop_output() -> None:
    """Send standard output nowhere from now on, what Python still flushes at its end included."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def quiet_end() -> Iterator[None]:
    """End the script without a traceback: with status 1 when nobody reads on (`| head`), with 130 on Ctrl-C."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
