"""From data to result: all stages of a run one after the other, each skipped where it is finished."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from runner.config.run import Run
from runner.failures import BUG, MISTAKE, explained
from runner.rundir.files import locked, write_json
from runner.stages.evaluate import evaluate
from runner.stages.search import search
from runner.stages.train import train
from runner.tracking.of_run import one_page

FAILURE = "failure.json"
"""What ended the last attempt at a run."""


def whole(run: Run) -> dict[str, Any]:
    """The result of a run, with everything that comes before it; resumes what was killed.

    The run directory is held from the first stage to the last. What fails is left in its failure.json, for those who
    look on.

    Raises:
        Held: if another process is at it.
        Exception: whatever a stage raises.
    """
    with locked(run.directory), one_page(run):
        path = run.directory / FAILURE
        path.unlink(missing_ok=True)
        try:
            train(run)
            if run.method.searched:
                search(run)
            return evaluate(run)
        except Exception as error:
            _leave(path, error)
            raise


def _leave(path: Path, error: Exception) -> None:
    words = explained(error)
    kept = {"error": words or f"{type(error).__name__}: {error}", "status": MISTAKE if words else BUG}
    with suppress(OSError):  # a full disk keeps no words; the terminal has them
        write_json(path, kept)
