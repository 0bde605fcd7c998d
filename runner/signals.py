"""Ctrl-C, SIGTERM, SIGHUP and SIGUSR1, a cluster's warning, end a script with one line and status 128 + signal.

Scripts import this first, and it imports nothing that takes time: a signal may come while the libraries load.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
SIGNALLED = 128
"""Exit statuses above this are those of processes that a signal ended."""
GRACE_SECONDS = 10.0
"""How long a signal waits at most; clusters kill 30 s after theirs."""
Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """One of `SIGNALS` came; a KeyboardInterrupt, since libraries know that one.

    Attributes:
        number: the signal.
        said: whether the user was told already, in the process where the job ran.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number, self.said = number, False

    @property
    def status(self) -> int:
        """The exit status that shells give a process that the signal ended."""
        return SIGNALLED + self.number

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


def _leave(number: int, frame: FrameType | None) -> None:
    """End at once, for times with nothing to clean up: an exception inside an import may be swallowed or wrapped."""
    with suppress(OSError, ValueError):
        if os.environ.get("RANK", "0") == "0":  # torchrun stops all its processes, and one says so
            print(f"{Stopped(number)}; the same command begins again", file=sys.stderr, flush=True)
    os._exit(Stopped(number).status)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(number)


@contextmanager
def as_it_came() -> Iterator[None]:
    """Raise the signal itself where a library inside makes a plain KeyboardInterrupt of it (Ray's waiting does)."""
    came: list[Stopped] = []

    def stop(number: int, frame: FrameType | None) -> None:
        came.append(Stopped(number))
        raise came[-1]

    replaced = _install(stop)
    try:
        yield
    except KeyboardInterrupt as error:
        if came and not isinstance(error, Stopped):
            raise came[-1] from error
        raise
    finally:
        _put_back(replaced)


@contextmanager
def deferred() -> Iterator[Callable[[], Stopped | None]]:
    """Let the first signal wait inside, for work that is worth keeping; a second one, or `GRACE_SECONDS`, ends it.

    Gives a function that tells what waits; whoever keeps the work raises it then, and the end of the context does.
    """
    waiting: list[Stopped] = []
    replaced: dict[int, Handler | int | None] = {}

    def wait(number: int, frame: FrameType | None) -> None:
        if waiting:
            raise waiting[0]
        waiting.append(Stopped(number))
        if hasattr(signal, "setitimer"):  # not on Windows
            replaced[signal.SIGALRM] = signal.signal(signal.SIGALRM, wait)
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

    replaced |= _install(wait)  # a signal may come before it returns
    try:
        yield lambda: waiting[0] if waiting else None
    except Exception as error:  # whatever it is, the process was told to end
        if waiting:
            raise waiting[0] from error
        raise
    finally:
        try:
            if waiting and hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # the alarm may come at this very moment
            _put_back(replaced)
    if waiting:
        raise waiting[0]


def _install(handler: Handler) -> dict[int, Handler | int | None]:
    """Set the handler where it takes the place of Python's or of one of ours; returns what it replaced.

    A signal that the parent had ignored (nohup, `&` in a script) stays ignored, a launcher's own handler stays too.
    """
    replaced: dict[int, Handler | int | None] = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _leave, _stop):
                replaced[number] = signal.signal(number, handler)
    return replaced


def _put_back(handlers: Mapping[int, Handler | int | None]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


@contextmanager
def kept() -> Iterator[None]:
    """Put the handlers back that a library sets inside, its handlers below Python's too."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        _put_back({number: handler for number, handler in before.items() if handler is not None})  # None: not Python's


@contextmanager
def loading() -> Iterator[None]:
    """What a script imports its libraries in; until the process ends, a signal outside `stoppable` ends it at once."""
    _install(_leave)
    yield


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` where a signal finds this process, which then leaves its files and locks as an error would."""
    replaced = _install(_stop)
    try:
        yield
    finally:
        _put_back(replaced)
