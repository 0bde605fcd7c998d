"""What a person sees while a run goes on: a live line on a terminal, plain lines in the log file and elsewhere."""

from __future__ import annotations

import codecs
import errno
import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from data.files import appending
from runner.failures import explained, naming
from runner.tracking import standing
from runner.tracking.terminal import STDOUT, drop_output

LOGGER = logging.getLogger("glora")
"""The root of all our loggers, `glora.<module>`."""

ASCII = {"±": "+-"}
"""What stands for the characters of our own messages where an output cannot show them."""


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    text = "".join(ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking)
    return text, error.end


codecs.register_error("glora.spell", _spell)


def spelled(text: str, encoding: str) -> str:
    """The text with what the encoding lacks spelled in characters that it has."""
    return text.encode(encoding, "glora.spell").decode(encoding)


def print_anything() -> None:
    """Let the output of this process take every text, in a terminal that is not UTF-8 (LC_ALL=C, Windows) too."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's or a test's own stream takes any text
            stream.reconfigure(errors="glora.spell")


class _Lines(logging.StreamHandler[TextIO]):
    """Log lines; once nobody reads them (`| head`, a terminal that is gone) they go nowhere, and the run goes on."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.EIO):
            drop_output()
        else:
            _raise_full(error, STDOUT)
            super().handleError(record)


class _File(logging.FileHandler):
    """A log file that is a file, since what it appends goes through no link, and that says where it cannot."""

    def _open(self) -> io.TextIOWrapper:
        return appending(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:
        _raise_full(sys.exc_info()[1], self.baseFilename)
        super().handleError(record)


def _raise_full(error: BaseException | None, path: str) -> None:
    """Raise what the disk said; logging would print it with a traceback and go on, and the log would end in silence."""
    if isinstance(error, OSError):
        with naming(path):
            raise error


class _Lean(logging.Formatter):
    """Without the line break at the end of what `warnings` hands on."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).rstrip()


FORMAT = _Lean("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")


def _not_shown(record: logging.LogRecord) -> bool:
    """Whether no library on the record's way to the root logger has shown it on the terminal (huggingface_hub does)."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(type(handler) is logging.StreamHandler for handler in logger.handlers):
            return False
        logger = logger.parent
    return True


def to_terminal(warnings_only: bool = False) -> None:
    """Show the log of this process and the warnings of every library in it, once each.

    Our own loggers are children of `glora`; what is not ours passes from warnings on. All of it reaches the root
    logger, where the terminal and the file of a stage (`log_file`) listen.

    Args:
        warnings_only: for scripts whose output is for other programs: only warnings, and on standard error. Otherwise
            all goes to standard output: through rich on a terminal, as plain lines in a pipe or file.
    """
    print_anything()
    handler: logging.Handler
    if warnings_only:
        handler = _Lines(sys.stderr)
        handler.setFormatter(_Lean("%(message)s"))
    elif sys.stdout.isatty():
        from rich.logging import RichHandler

        handler = RichHandler(show_path=False, show_level=False, log_time_format="%H:%M:%S")
        handler.setFormatter(_Lean("%(message)s"))
    else:
        handler = _Lines(sys.stdout)
        handler.setFormatter(FORMAT)
    handler.set_name("glora-terminal")
    handler.addFilter(_not_shown)
    root = logging.getLogger()
    for earlier in [h for h in root.handlers if h.get_name() == handler.get_name()]:
        root.removeHandler(earlier)
    root.addHandler(handler)
    LOGGER.setLevel(logging.WARNING if warnings_only else logging.INFO)
    logging.captureWarnings(True)


def no_terminal() -> None:
    """Show no log and no warnings of this process: those of another one, which does the same, are shown."""
    logging.getLogger().addHandler(logging.NullHandler())
    logging.captureWarnings(True)


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append the log, and the warnings of every library, to `path` as well, for the time of one stage.

    What ends the stage early stands last in it, with the traceback where it is a bug.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = _File(path, encoding="utf-8")
    handler.setFormatter(FORMAT)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # what is raised says more
            handler.handle(_last_word(error))
            handler.close()
        raise
    finally:
        root.removeHandler(handler)
        with naming(path):
            handler.close()


def _last_word(error: BaseException) -> logging.LogRecord:
    if isinstance(error, KeyboardInterrupt | SystemExit):  # the latter is how a launcher leaves a job to be requeued
        text: str | None = f"{str(error) or type(error).__name__}: {standing.current()}"
    else:
        text = explained(error)
    bug = (type(error), error, error.__traceback__) if text is None else None
    shown = f"ended by {type(error).__name__}" if text is None else text
    return logging.LogRecord(LOGGER.name, logging.ERROR, __file__, 0, shown, None, bug)


class Progress:
    """A live bar with the time left, silent where standard output is no terminal; and what a signal finds done.

    Args:
        title: what is being done.
        total: number of steps.
        done: steps that an earlier process finished.
        unit: what a step is; each is on the disk when `step` is called.
    """

    def __init__(self, title: str, total: int, done: int = 0, unit: str = "epoch") -> None:
        self._unit, self._total, self._done = unit, total, done
        self._bar = None
        if not sys.stdout.isatty():
            return
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[postfix]}"),
        )
        self._task = self._bar.add_task(title, total=total, completed=done, postfix="")

    def __enter__(self) -> Progress:
        standing.keep(self._unit, self._done, self._total)
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            standing.pause()
        if self._bar is not None:
            self._bar.stop()

    def step(self, postfix: str) -> None:
        """One more step is done; `postfix` has the newest figures."""
        self._done += 1
        standing.keep(self._unit, self._done, self._total)
        if self._bar is not None:
            self._bar.update(self._task, advance=1, postfix=postfix)
