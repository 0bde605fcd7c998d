"""Where the jobs of a command stand: who is at them, how long it takes, and the best numbers so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as RichTable
from rich.text import Text

from runner.config.errors import ConfigError
from runner.report.result import Record, read_result
from runner.report.tables import percent
from runner.stages.evaluate import result_path
from runner.sweep.hours import Hours
from runner.sweep.jobs import BEGUN, DONE, FAILED, RUNNING, Job
from runner.sweep.plan import Plan, spoken

REFRESH = 2.0
"""Seconds between two looks."""
SHOWN = 12
"""Jobs of one state that are listed."""
ORDER = (RUNNING, FAILED, BEGUN)
"""The states whose jobs are listed, in this order."""
STYLES = {RUNNING: "cyan", FAILED: "red", BEGUN: "yellow", DONE: "green"}


class Board:
    """The state of a command's jobs as something to look at; a result is read once.

    Args:
        jobs: of the command.
        records: finished results, which tell how long others take.
        at_once: jobs that run side by side, for the time left; None: as many as run now.
    """

    def __init__(self, jobs: Sequence[Job], records: Sequence[Record], at_once: int | None = None) -> None:
        self._jobs, self._at_once = jobs, at_once
        self._hours = Hours(records, measures=False)
        self._results: dict[int, Record] = {}

    def plan(self) -> Plan:
        """The jobs as they are now."""
        return Plan.of(self._jobs, self._hours)

    def done(self) -> bool:
        """Whether every job has its result."""
        return all(result_path(job.run).exists() for job in self._jobs)

    def __rich__(self) -> RenderableType:
        plan = self.plan()
        running = sum(state.state == RUNNING for state in plan.states)
        head = f"{plan.counts()}; {plan.duration(self._at_once or max(1, running))}"
        return Group(Text(head), *self._listed(plan), *self._best(plan))

    def _listed(self, plan: Plan) -> list[RenderableType]:
        grid = RichTable.grid(padding=(0, 2))
        rows = 0
        for wanted in ORDER:
            found = [(j, s, t) for j, s, t in zip(plan.jobs, plan.states, plan.seconds, strict=True)
                     if s.state == wanted]  # fmt: skip
            for job, state, seconds in found[:SHOWN]:
                left = "" if seconds is None else spoken(seconds)
                grid.add_row(Text(wanted, STYLES[wanted]), job.name, _line(state.detail), left)
                rows += 1
            if len(found) > SHOWN:
                grid.add_row(Text(wanted, STYLES[wanted]), f"and {len(found) - SHOWN} more", "", "")
        return [grid] if rows else []

    def _best(self, plan: Plan) -> list[RenderableType]:
        for number, (job, state) in enumerate(zip(plan.jobs, plan.states, strict=True)):
            if state.state == DONE and number not in self._results:
                try:
                    self._results[number] = read_result(result_path(job.run))
                except ConfigError:  # the tables name it
                    continue
        best = best_so_far(list(self._results.values()))
        if not best:
            return []
        parts = [f"{task} {percent(accuracy)} ({method})" for task, (accuracy, method) in best.items()]
        return [Text(f"best on test so far: {', '.join(parts)}")]


def _line(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return first if len(first) <= 100 else f"{first[:97]}..."


def best_so_far(records: Sequence[Record]) -> Mapping[str, tuple[float, str]]:
    """The highest accuracy of every task and the row that has it."""
    found: dict[str, tuple[float, str]] = {}
    for record in records:
        accuracy, task = record["test_accuracy"], record["dataset"]
        if accuracy is not None and (task not in found or accuracy > found[task][0]):
            found[task] = (accuracy, record["label"])
    return found


def watch(board: Board, console: Console | None = None) -> None:
    """Show the board: on a terminal until every job is done or Ctrl-C, elsewhere once."""
    console = console or Console()
    if not console.is_terminal:
        console.print(board)
        return
    with Live(board, console=console, auto_refresh=False) as live:
        while not board.done():
            time.sleep(REFRESH)
            live.refresh()
        live.refresh()


def looking(board: Board) -> tuple[Callable[[], None], Callable[[], None]]:
    """For jobs that run in other processes: what shows the board again, and what ends that. Silent off a terminal."""
    console = Console()
    if not console.is_terminal:
        return lambda: None, lambda: None
    live = Live(board, console=console, auto_refresh=False)
    live.start()
    last = time.monotonic()

    def look() -> None:
        nonlocal last
        if time.monotonic() - last >= REFRESH:
            last = time.monotonic()
            live.refresh()

    return look, live.stop
