"""One job as part of several: what goes wrong in it is said, kept as its outcome, and keeps no other from its turn."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from runner import torchrun
from runner.config.errors import NotSearched
from runner.failures import report
from runner.signals import Stopped, stoppable
from runner.tracking import standing
from runner.tracking.outcomes import Outcome, in_a_sweep
from runner.tracking.terminal import quiet_end


@contextmanager
def kept(keep: Callable[[Outcome], object]) -> Iterator[None]:
    """Say what goes wrong inside and hand it to `keep`; raised is only what ends the process."""
    try:
        with quiet_end():
            yield
    except Exception as error:
        if isinstance(error, NotSearched) and in_a_sweep():
            keep(Outcome(passed_over=True))
        else:
            text, status = report(error)
            keep(Outcome(error=text, status=status))
    except KeyboardInterrupt as error:
        stop = error if isinstance(error, Stopped) else Stopped()
        # torchrun stops all ranks where one has failed.
        text = torchrun.failed() or f"{stop}: {standing.current()}"
        if not stop.said and torchrun.says(text, stop):  # not yet, in the job that it stopped
            print(text, file=sys.stderr)
            stop.said = True
        keep(Outcome(error=text, status=stop.status))
        raise stop from None


@contextmanager
def ending(beside: list[Outcome]) -> Iterator[None]:
    """Keep what goes wrong inside as `kept` does, signals too: what is left to be said is said, then all ends."""
    with suppress(KeyboardInterrupt), stoppable(), kept(beside.append):
        yield


def list_jobs(jobs: list[Outcome], stopped: bool) -> None:
    """What the jobs of a sweep came to: after a signal each one, else those that failed."""
    undone = [job for job in jobs if job.error is not None]
    if stopped:
        print(f"{len(jobs) - len(undone)} of {len(jobs)} jobs are done; the same command goes on", file=sys.stderr)
    elif undone:
        print(f"{len(undone)} of {len(jobs)} jobs failed; each runs again alone with its words:", file=sys.stderr)
    for job in jobs if stopped else undone:
        print(job.line(), file=sys.stderr)
