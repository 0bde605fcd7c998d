"""What a command is about to do, said before it begins: jobs, what they need, and how long it takes."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from runner.sweep.hours import Hours
from runner.sweep.jobs import STATES, WAITING, Job, Progress, lacking, progress


@dataclass(frozen=True)
class Plan:
    """The jobs with how far they are and the seconds each still takes alone, None where nothing tells."""

    jobs: Sequence[Job]
    states: Sequence[Progress]
    seconds: Sequence[float | None]

    @classmethod
    def of(cls, jobs: Sequence[Job], hours: Hours) -> Plan:
        """Look at every job's run directory; what no finished run tells is measured."""
        states = [progress(job.run) for job in jobs]
        seconds = [hours.left(job, state) for job, state in zip(jobs, states, strict=True)]
        return cls(jobs, states, seconds)

    def counts(self) -> str:
        """As in "12 jobs: 3 done, 9 waiting"."""
        found = Counter(state.state for state in self.states)
        parts = ", ".join(f"{found[state]} {state}" for state in STATES if found[state])
        return f"{len(self.jobs)} job{'s' * (len(self.jobs) != 1)}: {parts}"

    def duration(self, at_once: int) -> str:
        """What is left with so many jobs at once, roughly."""
        known = [s for s in self.seconds if s is not None]
        if not known:
            return "how long: nothing tells"
        total = max(sum(known) / max(1, at_once), max(known))
        more = len(self.seconds) - len(known)
        return f"about {spoken(total)} left" + (f", and {more} jobs of unknown length" if more else "")

    def lines(self, at_once: int) -> list[str]:
        """The plan in a few lines."""
        undone = [job for job, state in zip(self.jobs, self.states, strict=True) if state.share < 1]
        return [f"{self.counts()}; {self.duration(at_once)}", *(f"needs: {line}" for line in lacking(undone))]

    def listed(self) -> list[str]:
        """A line for each job: its state, its words, and the time that it still takes."""
        shared = [w for w in self.jobs[0].words if all(w in job.words for job in self.jobs)] if self.jobs[1:] else []
        found = [f"all with: {shlex.join(shared)}"] if shared else []
        for job, state, seconds in zip(self.jobs, self.states, self.seconds, strict=True):
            left = "" if seconds is None or state.share == 1 else f" ({spoken(seconds)})"
            detail = "" if state.state == WAITING or not state.detail else f": {state.detail.splitlines()[0]}"
            found.append(f"  {state.state:<8} {shlex.join(w for w in job.words if w not in shared)}{left}{detail}")
        return found


def spoken(seconds: float) -> str:
    """A duration for a person: "40 s", "7 min", "3 h 20 min", "2 d 3 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 36:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
