"""The jobs of one command, and how far each one is, as its run directory says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from data import DataError
from glora.backbones import WEIGHTS_FILE, hub_repository
from runner.config.errors import ConfigError
from runner.config.protocol import WEIGHTS
from runner.config.run import Run
from runner.rundir.lease import Owner, owner_of
from runner.rundir.records import Failure, read
from runner.stages.evaluate import result_path
from runner.stages.inputs import require_data
from runner.stages.whole import FAILURE
from runner.stages.winner import tunings
from runner.tracking.metrics import read_metrics

DONE, RUNNING, FAILED, BEGUN, WAITING = STATES = ("done", "running", "failed", "begun", "waiting")


@dataclass(frozen=True)
class Job:
    """One run of a command, with the words that name it alone."""

    run: Run
    words: tuple[str, ...]

    @property
    def name(self) -> str:
        """Short, for a person: task, method and seed."""
        return f"{self.run.task.id} {self.run.method.name} seed {self.run.seed}"


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        state: one of `STATES`.
        detail: what is going on or was said.
        share: of the training that is behind it, from 0 to 1.
        owner: who is at it.
    """

    state: str
    detail: str = ""
    share: float = 0.0
    owner: Owner | None = None


def progress(run: Run) -> Progress:
    """How far the run is; reads small files alone, and changes none."""
    if result_path(run).exists():
        return Progress(DONE, share=1.0)
    stage, share = _stage(run)
    owner = owner_of(run.directory)
    if owner is not None:
        return Progress(RUNNING, f"{stage}, {owner}", share, owner)
    failure = run.directory / FAILURE
    if failure.exists():
        try:
            words = read(failure, Failure).error
        except ConfigError as error:
            words = str(error)
        return Progress(FAILED, words, share)
    return Progress(BEGUN, stage, share) if stage else Progress(WAITING)


def _stage(run: Run) -> tuple[str, float]:
    """What is under way in a run directory, and the share of its training that is done; nothing where it is new."""
    if not run.directory.is_dir():
        return "", 0.0
    phases = run.protocol.phases(run.method.retrained)
    for number, phase in enumerate(phases):
        if not (run.directory / phase.file).exists():
            epochs = _epochs(phase.folder(run.directory))
            share = (number + epochs / run.recipe.epochs) / len(phases)
            return (f"training, epoch {epochs} of {run.recipe.epochs}" if epochs else "training"), share
    search = run.search
    if search is None:
        return "evaluating", 1.0
    if not (search.directory / "best.json").exists():
        return f"{search.name} search" if search.searches else f"measuring search.winner={search.winner}", 1.0
    left = [name for name in tunings(search) if not (search.directory / name / WEIGHTS).exists()]
    return (f"training the winner ({left[0]})" if left else "evaluating"), 1.0


def _epochs(folder: Path) -> int:
    rows = read_metrics(folder / "metrics.jsonl")
    return max((int(row["epoch"]) + 1 for row in rows if "epoch" in row), default=0)


def lacking(jobs: Sequence[Job]) -> list[str]:
    """What the jobs need that this machine does not have, a line each: data sets to prepare, weights to fetch."""
    found: dict[str, None] = {}
    for job in jobs:
        for problem in (_data(job.run), _weights(job.run)):
            if problem:
                found[problem] = None
    return list(found)


def _data(run: Run) -> str | None:
    try:
        require_data(run)
    except DataError as error:
        return str(error)
    return None


def _weights(run: Run) -> str | None:
    backbone = run.backbone
    if not backbone.pretrained:
        return None
    if backbone.weights is not None:
        return None if backbone.weights.is_file() else f"backbone.weights={backbone.weights} does not exist"
    repository = hub_repository(backbone)
    if repository is None or isinstance(try_to_load_from_cache(repository, WEIGHTS_FILE), str):
        return None
    return f"the weights of {backbone.timm_name} are not in the local cache; the first job fetches them from the hub"
