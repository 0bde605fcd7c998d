"""What went wrong, as one line of what to do about it, or as a bug: an error that nothing here foresaw.

The libraries underneath say "no space left" and "out of memory" in many ways, several of them as a RuntimeError.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch
from hydra.errors import CompactHydraException
from safetensors import SafetensorError

from data import DataError
from glora.backbones import WeightsError
from glora.distributed import Lost
from runner import torchrun
from runner.config.errors import ConfigError
from runner.config.overrides import explain
from runner.tracking import standing
from runner.tracking.terminal import STDOUT

MISTAKE, BUG = 2, 3
"""Exit statuses: what the user can mend (words, data, disk, memory), and an error of this project."""

KNOWN = (ConfigError, DataError, WeightsError, FloatingPointError)
"""Raised with a line that says it all."""

AGAIN = "type the same command again, which goes on from what is kept"
FULL = f"free some space, then {AGAIN}"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EFBIG: f"raise the limit (ulimit -f), then {AGAIN}",
    errno.EMFILE: f"raise the limit (ulimit -n), then {AGAIN}",
    errno.ENFILE: f"close other programs, then {AGAIN}",
    errno.EIO: f"see to the disk, then {AGAIN}",
    errno.ENOENT: f"if it was moved or deleted meanwhile, put it back; then {AGAIN}",
    errno.ESTALE: f"mount its disk again, then {AGAIN}",
    **dict.fromkeys(
        (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP),
        "move it away or give another place (output_root=, data_root=)",
    ),
}
"""What to do about what the system says."""

LOWER = ("lower trainer.batch_size, backbone.image_size, ranks or search.val_limit, take precision=bf16 or a "
         "smaller backbone, or run fewer jobs at once")  # fmt: skip
MEMORY = re.compile(
    "out of memory|can't allocate memory|cannot allocate memory|not enough memory|unable to allocate|std::bad_alloc"
    "|_ALLOC_FAILED|can't start new thread|resource temporarily unavailable",
    re.IGNORECASE,
)
"""How allocators of torch (CPU, CUDA, cuDNN, cuBLAS), of C++ and of the system say that there is no more."""

WRITING = re.compile("PytorchStreamWriter|iostream error|unexpected pos|parent directory .* does not exist", re.I)
"""How torch.save says that it could not write."""


def explained(error: BaseException) -> str | None:
    """What the user can mend, in a line or, where there are several problems, in several; None for a bug."""
    text = " ".join(str(error).split())
    if isinstance(error, KNOWN):
        return str(error)
    if isinstance(error, CompactHydraException):
        return explain(error)
    if isinstance(error, Lost):
        return torchrun.why()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or _says(error, MEMORY):
        # torch names the place in its own source first
        return f"out of memory ({_short(text.rpartition('DefaultCPUAllocator: ')[2]) or 'of the CPU'}): {LOWER}"
    if isinstance(error, OSError):
        # What is written here has a name: without one it is a library's file, or what is printed.
        unnamed = f"{_place()} or {STDOUT}"
        return None if error.errno is None else _system(error.errno, error.filename or unnamed, error.strerror)
    if isinstance(error, SafetensorError):
        code, file = re.search(r"os error (\d+)|code: (\d+)", text), re.search('at path "(.*?)"', text)
        return None if code is None else _system(int(code[1] or code[2]), file and file[1])
    if _says(error, WRITING):
        # With a stream of Python's, what failed underneath is what torch was busy with as it gave up.
        below = next((e for e in _chain(error) if isinstance(e, OSError)), None)
        if below is not None and below.errno is not None:
            return _system(below.errno, below.filename, below.strerror)
        return f"{_place()}: a checkpoint cannot be written ({_short(text)}); see that its disk is there and not " \
               f"full, then {AGAIN}"  # fmt: skip
    if type(error).__name__ == "UncompletedJobError":  # of submitit, which need not be installed
        return f"{_short(text)} Raise hydra.launcher.max_num_timeout for the cluster to go on by itself; or {AGAIN}"
    if isinstance(error, BrokenProcessPool):
        return f"a process that ran jobs was killed, for its memory perhaps ({_short(text)}); {LOWER}; then {AGAIN}"
    return None


def _says(error: BaseException, pattern: re.Pattern[str]) -> bool:
    return isinstance(error, RuntimeError | OSError) and pattern.search(str(error)) is not None


def _short(text: str) -> str:
    return ". ".join(text.split(". ")[:2])[:200]


def _place() -> str:
    directory = standing.current().directory
    return "the disk" if directory is None else f"{directory}"


def _system(code: int, name: object = None, text: str | None = None) -> str:
    shown = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else _place()
    return f"{shown}: {text or os.strerror(code)}; {REMEDIES.get(code, AGAIN)}"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an OSError from inside the name of the file, which writing to an open one leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def report(error: Exception) -> tuple[str, int]:
    """Say on standard error what went wrong, with the traceback of a bug; returns what is kept of it and its status."""
    text = explained(error)
    if text is not None:
        if torchrun.says(text, error):
            print(f"error: {text}", file=sys.stderr)
        return text, MISTAKE
    text = f"{type(error).__name__}: {error}"
    traceback.print_exception(error)
    if torchrun.says(text, error):
        print(f"error: {text}\nthis is a mistake of the program, not yours; please report it with the lines above",
              file=sys.stderr)  # fmt: skip
    return text, BUG
