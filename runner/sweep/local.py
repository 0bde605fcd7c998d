"""The jobs of a command on this machine: one after the other in this process, or several at once, each in its own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

from data.base import usable_cpus
from runner.attempt import kept
from runner.config.compute import gpu_count
from runner.rundir.lease import Held
from runner.signals import SIGNALLED, Stopped, stoppable
from runner.stages.whole import whole
from runner.sweep.jobs import Job
from runner.tracking import standing
from runner.tracking.outcomes import NOT_STARTED, Outcome

AGAIN = 75
"""Exit status of a job that another process is at (EX_TEMPFAIL of sysexits.h)."""
POLL = 0.5
"""Seconds between two looks at the processes."""
RETRY = 10.0
"""Seconds between two looks at jobs that other processes are at."""
PATIENCE = 30.0
"""Seconds that a stopped process has for its checkpoint."""
ROOT = Path(__file__).resolve().parent.parent.parent

Told = Callable[[Job, Outcome], None]
"""Gets every job that has come to an end."""


def one_by_one(jobs: Sequence[Job], told: Told) -> list[Outcome]:
    """Take every job to its result, in this process. Jobs that another process is at are passed over, then awaited.

    Returns:
        What the jobs came to, in their order; after a signal the rest is not started.
    """
    found: dict[int, Outcome] = {}
    waiting = list(range(len(jobs)))
    try:
        while waiting:
            held = [n for n in waiting if not _attempt(jobs[n], n, found, told)]
            if len(held) == len(waiting):
                time.sleep(RETRY)
            waiting = held
    except KeyboardInterrupt as stop:
        return _in_order(jobs, found, stop)
    return _in_order(jobs, found)


def _attempt(job: Job, number: int, found: dict[int, Outcome], told: Told) -> bool:
    """Run a job; False if another process is at it. Raises KeyboardInterrupt where a signal stopped it."""

    def keep(outcome: Outcome) -> None:
        found[number] = _named(outcome, job, number)

    with stoppable(), kept(keep):
        standing.begin(job.run.directory)
        try:
            whole(job.run)
        except Held:
            return False
        keep(Outcome())
    told(job, found[number])
    return True


def _named(outcome: Outcome, job: Job, number: int) -> Outcome:
    return replace(outcome, number=number, words=shlex.join(job.words))


def _in_order(
    jobs: Sequence[Job], found: Mapping[int, Outcome], stop: KeyboardInterrupt | None = None
) -> list[Outcome]:
    """An outcome for every job; with the status of the signal where that stopped it or its start."""
    status = stop.status if isinstance(stop, Stopped) else 2
    lost = Outcome(error=NOT_STARTED, status=status)
    came = [found.get(n) or _named(lost, job, n) for n, job in enumerate(jobs)]
    return [replace(o, status=status) if stop is not None and o.status > SIGNALLED else o for o in came]


def side_by_side(jobs: Sequence[Job], at_once: int, told: Told, look: Callable[[], None]) -> list[Outcome]:
    """The same with `at_once` processes, which share the processor's threads and have a GPU each where there are some.

    Args:
        jobs: what is to be done.
        at_once: processes.
        told: see `Told`.
        look: called every half second.
    """
    found: dict[int, Outcome] = {}
    free, waiting, resting = list(range(at_once)), list(range(len(jobs))), dict[int, float]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="glora-jobs-")))
        running: dict[int, _Process] = {}
        try:
            with stoppable():
                while waiting or running or resting:
                    waiting += [n for n, until in resting.items() if time.monotonic() >= until]
                    resting = {n: until for n, until in resting.items() if n not in waiting}
                    while free and waiting:
                        number = waiting.pop(0)
                        running[number] = _Process(jobs[number], free.pop(0), at_once, folder / f"{number}.log")
                    time.sleep(POLL)
                    for number, process in list(running.items()):
                        if process.ended():
                            free.append(running.pop(number).slot)
                            if process.status == AGAIN:
                                resting[number] = time.monotonic() + RETRY
                                continue
                            found[number] = _named(process.outcome(), jobs[number], number)
                            told(jobs[number], found[number])
                    look()
        except KeyboardInterrupt as stop:
            for process in running.values():
                process.stop()
            for number, process in running.items():
                process.wait()
                found[number] = _named(process.outcome(), jobs[number], number)
            print(f"{stop}: the jobs that ran keep what they had done", file=sys.stderr)
            return _in_order(jobs, found, stop)
    return _in_order(jobs, found)


class _Process:
    """A process that takes one job to its result; what it prints goes to a file."""

    def __init__(self, job: Job, slot: int, at_once: int, log: Path) -> None:
        self.slot, self._log = slot, log
        environment = {**os.environ, **shares(slot, at_once), "PYTHONPATH": python_path()}
        self._file: IO[bytes] = log.open("wb")
        command = [sys.executable, "-m", "runner.sweep.one", *job.words]
        # A group of its own: Ctrl-C reaches the parent alone, which tells the others.
        self._process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=self._file,
                                         stderr=subprocess.STDOUT, start_new_session=True)  # fmt: skip

    @property
    def status(self) -> int:
        """The exit status; as a shell gives it where a signal ended the process."""
        code = self._process.returncode
        return SIGNALLED - code if code < 0 else code

    def ended(self) -> bool:
        """Whether it is over."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """Ask it to end."""
        if not self.ended():
            self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait for its end, which comes after `PATIENCE` at the latest."""
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def outcome(self) -> Outcome:
        """What it came to."""
        self._file.close()
        if not self.status:
            return Outcome()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        sys.stderr.write("".join(f"{line}\n" for line in said if self.status == 3))  # a traceback, to be reported
        errors = [line.removeprefix("error: ") for line in said if line.startswith(("error: ", "stopped by"))]
        if not errors and self.status == SIGNALLED + signal.SIGKILL:
            errors = ["its process was killed, maybe for memory: lower trainer.batch_size or run fewer jobs at once"]
        return Outcome(error="\n".join(errors or said[-1:] or ["its process ended without a word"]), status=self.status)


def shares(slot: int, at_once: int) -> dict[str, str]:
    """What the process of a slot has in its environment: its GPU, and its threads unless the user has set them."""
    found = {}
    gpus = gpu_count()
    if gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        names = visible.split(",") if visible else [str(i) for i in range(gpus)]
        found["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
    if "OMP_NUM_THREADS" not in os.environ:
        found["OMP_NUM_THREADS"] = str(max(1, usable_cpus() // at_once))
    return found


def fitting_jobs(most: int) -> int:
    """Jobs at once that this machine has something for: a GPU each, or else a core each."""
    return max(1, min(most, gpu_count() or usable_cpus()))


def python_path() -> str:
    """PYTHONPATH for processes that import this project, wherever they begin."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
