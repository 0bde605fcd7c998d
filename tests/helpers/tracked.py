"""A stage's tracker on a page of its own."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

from runner.tracking.page import START_SECONDS, Page
from runner.tracking.tracker import Place, Tracker


@contextmanager
def tracked(folder, mode="offline", run_id="run", prefix="", echo=lambda line: None, start_seconds=START_SECONDS):
    """A tracker in `folder` whose W&B run ends with it."""
    folder = Path(folder)
    with (
        Page(folder, run_id, mode, {"project": "test"}, echo=echo, start_seconds=start_seconds) as page,
        Tracker(folder, Place(page, prefix)) as tracker,
    ):
        yield tracker


class SilentRun:
    """A made-up W&B run that keeps what is logged."""

    def __init__(self, starting_step=0):
        self.starting_step, self.sent, self.ended = starting_step, [], []

    def log(self, values, step):
        """Keep it."""
        self.sent.append((step, values))

    def finish(self, exit_code):
        """Keep how it ended."""
        self.ended.append(exit_code)
