"""The scripts as processes of their own, forked from one that has imported their libraries already.

A fresh interpreter spends most of a small command's time on importing torch, torchvision and timm. A forked one has
its own arguments, output, exit status and memory, and can be killed. What only a fresh interpreter shows is tested with
one.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import CompletedProcess

from tests.helpers import ROOT

_FORKED = multiprocessing.get_context("forkserver")  # its server only imports: safe to fork from
_FORKED.set_forkserver_preload(
    ["runner.cli", "runner.stages.train", "runner.stages.search", "runner.stages.evaluate", "runner.report.tables",
     "rich.console", "sklearn.datasets", "matplotlib.backends.backend_agg", "matplotlib.figure"]
)  # fmt: skip


def _script(
    command: list[str], stdout: str, stderr: str, environment: dict[str, str], before: Callable[[], None] | None
) -> None:
    os.environ.update(environment)
    for stream, path in ((sys.stdout, stdout), (sys.stderr, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream.fileno())
    os.chdir(ROOT)
    sys.argv = command
    sys.path.insert(0, str((ROOT / command[0]).parent))
    if before is not None:
        before()
    runpy.run_path(str(ROOT / command[0]), run_name="__main__")


def start(
    command: list[str],
    stdout: str = os.devnull,
    stderr: str = os.devnull,
    environment: dict[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> BaseProcess:
    """Start `[script, *arguments]` in the root of the repository, its output going to files.

    `environment` holds variables to set in it: those of the test are not inherited. `before` is
    called in the new process first: what the test itself replaced is not there.
    """
    process = _FORKED.Process(target=_script, args=(command, stdout, stderr, environment or {}, before))
    process.start()
    return process


def forked(
    command: list[str], environment: dict[str, str] | None = None, before: Callable[[], None] | None = None
) -> CompletedProcess[str]:
    """Run `[script, *arguments]` to its end, as `subprocess.run` with captured text does; see `start`."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(command, *map(str, files), environment, before)
        process.join()
        assert process.exitcode is not None
        outputs = [path.read_text() if path.exists() else "" for path in files]
    return CompletedProcess(command, process.exitcode, *outputs)


def kill_when(root: Path, pattern: str, command: list[str], before: Callable[[], None] | None = None) -> None:
    """Start the command and end it with SIGKILL as soon as a file that matches the pattern lies under the root."""
    process, deadline = start(command, before=before), time.time() + 120
    while process.is_alive() and not list(root.rglob(pattern)) and time.time() < deadline:
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"it ended by itself with status {process.exitcode}"


def fresh(command: list[str]) -> CompletedProcess[str]:
    """Run `[script, *arguments]` to its end in an interpreter of its own."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
