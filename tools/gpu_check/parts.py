"""The parts by priority, each in a process of its own that is ended at its limit."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import time
from collections.abc import Collection, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from runner.config.compute import use_tf32
from tools.gpu_check.check import Check
from tools.gpu_check.record import Outcome, Record, read_figures, state_of


class Part(NamedTuple):
    """A function as `module:name`, how many seconds it may take, and with how many it is worth its start."""

    function: str
    limit: float
    least: float


PARTS = {
    "tests": Part("tools.gpu_check.commands:run_tests", 100, 20),
    "steps": Part("tools.gpu_check.steps:measure_steps", 140, 30),
    "candidates": Part("tools.gpu_check.candidates:measure_candidates", 80, 20),
    "task": Part("tools.gpu_check.task:measure_task", 90, 25),
    "profile": Part("tools.gpu_check.steps:measure_kernels", 60, 20),
    "study": Part("tools.gpu_check.commands:run_studies", float("inf"), 30),
}
"""By priority. The first five take at most 470 s together."""

SMOKE = 5.0
"""Times its limit that a part may take on a CPU, which others may use too."""

RESERVE = 3.0
"""Seconds kept for ending a part and writing the record."""


def run_part(function: str, check: Check, log: str) -> None:
    """In a process of its own: the leader of all that it starts, printing to the log."""
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    use_tf32(False)
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(check)


def end(process: BaseProcess) -> None:
    """End a part and everything that it started: asked first, then killed."""
    for sign, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0)):
        if process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
        process.join(patience)


def watch(process: BaseProcess, check: Check) -> Iterator[int]:
    """Wait for the part to end or for its time to be over; yields the SM clock now and then."""
    while process.is_alive() and check.left > 0:
        process.join(min(2.0, max(0.0, check.left)))
        clock = state_of(check.device).get("clocks.sm", "")
        if clock.isdecimal():
            yield int(clock)


def run(check: Check, part: Part, log: Path) -> Outcome:
    """Run one part to its end or its limit."""
    check.figures.unlink(missing_ok=True)
    began, length = time.time(), log.stat().st_size if log.exists() else 0
    # One import of torch serves all on a CPU; a fork of a process that has as much as counted devices has none.
    context = multiprocessing.get_context("spawn") if check.cuda else multiprocessing.get_context("forkserver")
    process = context.Process(target=run_part, args=(part.function, check, str(log)), name=check.part)
    process.start()
    try:
        clocks = list(watch(process, check))
        late = process.is_alive()
    finally:
        end(process)
    with log.open("rb") as stream:
        stream.seek(length)
        text = stream.read().decode(errors="replace").rstrip()
    last = text.splitlines()[-1] if text else f"status {process.exitcode}"
    status = f"cut off after {time.time() - began:.0f} s" if late else "done"
    if not late and process.exitcode:
        status = f"failed: {last[:300]}"
    figures = read_figures(check.figures)
    shown = "" if status == "done" else text[-4000:]
    return Outcome(status, time.time() - began, (min(clocks), max(clocks)) if clocks else None, figures, shown)


def run_all(record: Record, chosen: Collection[str], folder: Path) -> None:
    """Run the chosen parts by priority, and write the record after each."""
    began, log = time.time(), folder / "log.txt"
    log.write_text("")
    record.card = state_of(record.device)
    record.parts = {name: Outcome() for name in PARTS if name in chosen}
    multiprocessing.set_forkserver_preload(
        [f"tools.gpu_check.{m}" for m in ("task", "steps", "candidates", "commands")]
    )
    for name in record.parts:
        part, left = PARTS[name], began + record.budget - RESERVE - time.time()
        if left < part.least:
            record.parts[name] = Outcome(f"not run: {max(0.0, left):.0f} s were left")
        else:
            limit = min(part.limit * (SMOKE if record.smoke else 1), left)
            print(f"{name}: at most {limit:.0f} s", flush=True)
            check = Check(record.device, record.smoke, folder, name, time.time() + limit)
            record.parts[name] = run(check, part, log)
        record.seconds = time.time() - began
        record.write(folder)
        print(f"{name}: {record.parts[name].status} ({record.parts[name].seconds:.0f} s)", flush=True)
