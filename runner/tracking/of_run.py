"""The trackers of a run's stages, the W&B page that they share, and what a run was made on, from the run."""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from runner.config.grid import point_name
from runner.config.protocol import WEIGHTS
from runner.config.run import Run
from runner.tracking.environment import processor, versions
from runner.tracking.page import Page
from runner.tracking.server import resolve_mode
from runner.tracking.tracker import Place, Tracker

log = logging.getLogger(f"glora.{__name__}")
SEARCH, EVALUATE = "search", "evaluate"
"""Stages whose metrics are of generations, and of the run as a whole, which have its plain names."""


def stages(run: Run) -> dict[str, Path]:
    """The folders of metrics of all trainings, the search and the evaluation, in the order in which they come about."""
    points = [] if run.grid is None else [point_name(point) for point in run.grid.points()]
    found = {f"grid/{name}": run.directory / "grid" / name for name in points}
    for phase in run.protocol.phases(run.method.retrained):
        found["train" if phase.file == WEIGHTS else phase.split] = phase.folder(run.directory)
    if run.search is not None:
        final, directory = run.protocol.phase(run.protocol.final, WEIGHTS), run.search.directory
        found[SEARCH] = directory
        found |= {name: final.folder(directory / name) for name in ("retrained", "tuned", "scratch")}
    return {**found, EVALUATE: run.result_directory / EVALUATE}


def page_id(run: Run) -> str:
    """The id of the run's page on W&B: that of its result, the same for all its stages and at every restart."""
    return hashlib.sha256(str(run.result_directory.resolve()).encode()).hexdigest()[:16]


def sweep_name(run: Run) -> str:
    """The W&B group of the runs that make one table, unless the user names one."""
    return run.tracking.group or "-".join((run.task.suite, run.backbone.name, run.trainer, run.protocol.name))


def _prefix(name: str) -> str:
    return "" if name == EVALUATE else f"{name}/"


class Job:
    """A run on its way through its stages: its page is opened by the first of them that logs anything."""

    def __init__(self, run: Run, ending: ExitStack) -> None:
        self._run, self._ending, self._stages = run, ending, stages(run)
        self._page: Page | None = None
        self._sent = 0

    def tracker(self, folder: Path) -> Tracker:
        """That of the stage with this folder; what earlier processes did for stages before it is sent again."""
        names = list(self._stages)
        order = list(self._stages.values()).index(folder)
        page = self._page = self._page or self._ending.enter_context(self._open())
        for n in range(self._sent, order):
            page.send("replay", Place(page, _prefix(names[n]), n).left(self._stages[names[n]]))
        self._sent = max(self._sent, order + 1)
        return Tracker(folder, Place(page, _prefix(names[order]), order))

    def _open(self) -> Page:
        run = self._run
        search = {} if run.search is None else run.search.described()
        search = {**search.pop("settings", {}), **search}
        options = {
            "project": run.tracking.project,
            "name": f"{run.task.id}-{run.method.name}-seed{run.seed}-{page_id(run)[:6]}",
            "group": sweep_name(run),
            "job_type": run.method.name,
            "config": {**run.identity, "search": search,
                       "directory": run.result_directory.relative_to(run.output_root).as_posix()},
        }  # fmt: skip
        axes = {_prefix(name): "generation" if name == SEARCH else "epoch" for name in self._stages if _prefix(name)}
        mode = resolve_mode(run.tracking.wandb)
        return Page(run.directory, page_id(run), mode, options, axes, log.info)


_jobs: dict[str, Job] = {}


@contextmanager
def one_page(run: Run) -> Iterator[Job]:
    """Keep one W&B run open for all stages inside, from the first that logs anything to the end."""
    name = page_id(run)
    if name in _jobs:
        yield _jobs[name]
        return
    with ExitStack() as ending:
        ending.callback(_jobs.pop, name)
        _jobs[name] = Job(run, ending)
        yield _jobs[name]


@contextmanager
def open_tracker(run: Run, folder: Path) -> Iterator[Tracker]:
    """The tracker of the stage of a run whose metrics go to `folder`."""
    with one_page(run) as job, job.tracker(folder) as tracker:
        yield tracker


@functools.cache
def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def environment(run: Run) -> dict[str, Any]:
    """Hardware and versions, for the record: what a figure was made with."""
    found = versions("torch", "torchvision", "timm", "numpy", "hydra-core")
    return {"device": device_name(run.compute.device), "threads": torch.get_num_threads(), **found}
