"""Going on with a killed training: its resume file must be of this very training, and hold nothing out of range."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from glora.distributed import BrokenOff, Lost
from glora.train import Augmented, Trainer
from runner import torchrun
from runner.config.protocol import Phase
from runner.config.run import Run
from runner.rundir.checkpoints import State, load_checkpoint, save_checkpoint
from runner.signals import Stopped
from runner.tracking import standing

log = logging.getLogger(f"glora.{__name__}")


EVERY_SECONDS = 20.0
"""Between two saves inside an epoch, at least;"""
SAVES_SHARE = 0.02
"""and of a training's time they take no more than this."""


class Resumable:
    """A training's state on the disk: the trainer's, the rows of its epochs, its peak memory and time so far.

    It is saved after every epoch and, where epochs are long or a signal came, after a step inside one.

    Args:
        run: what is trained.
        directory: where everything of it goes, below that of the run.
        phase: which training it is.
        trainer: what trains.
        content_hash: of its images.
        count: how many they are.
        peak_memory_mb: gives the peak memory of this process.
    """

    def __init__(
        self,
        run: Run,
        directory: Path,
        phase: Phase,
        trainer: Trainer,
        content_hash: str,
        count: int,
        peak_memory_mb: Callable[[], float],
    ) -> None:
        self.path, self.trainer = directory / f"resume_{phase.split}.pt", trainer
        self.rows: list[dict[str, Any]] = []
        self._peak_here, self._peak_before = peak_memory_mb, 0.0
        self._seconds = 0.0  # of the epoch that an earlier process began
        self._began = self._saved = time.monotonic()
        self._cost = 0.0
        self._steps = count // run.recipe.batch_size
        told = [run.identity, vars(run.recipe), os.path.relpath(directory, run.directory), phase.split, content_hash]
        self._made_for = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    @property
    def peak_memory_mb(self) -> float:
        """Of all processes that trained, in MB."""
        return round(max(self._peak_before, self._peak_here()), 1)

    def load(self) -> None:
        """Continue from the newest resume file that fits; those that do not are named in the log."""
        if load_checkpoint(self.path, self._restore):
            begun = f" and {self.trainer.steps_begun} steps of the next" if self.trainer.steps_begun else ""
            log.info("resuming after epoch %d%s", self.trainer.epoch, begun)
        torchrun.order("load")
        torchrun.give(self.trainer.state)

    def train_epoch(
        self, inputs: Tensor | Augmented, labels: Tensor, waiting: Callable[[], Stopped | None], keep_last: bool
    ) -> dict[str, Any]:
        """The row of the next epoch, or of what is left of it, with its seconds.

        Args:
            inputs: what is trained on.
            labels: (N,) int64, on the device.
            waiting: which signal waits (`deferred`).
            keep_last: save behind the last step too, since what follows it takes time.

        Raises:
            Stopped: for a signal, after the state behind a step is kept.
            Lost: if another rank has ended; where it said so, after the same.
        """
        self._began = time.monotonic() - self._seconds
        torchrun.order("epoch")
        try:
            row = self.trainer.train_epoch(inputs, labels, lambda: self._after_step(waiting(), keep_last))
        except Lost as end:
            if isinstance(end, BrokenOff):
                self._keep_step()
            raise waiting() or end from end
        self._seconds = 0.0
        return {"epoch": self.trainer.epoch - 1, **row, "seconds": round(time.monotonic() - self._began, 3)}

    def _after_step(self, stop: Stopped | None, keep_last: bool) -> None:
        last = keep_last and self.trainer.steps_begun == self._steps
        if stop is not None or last or time.monotonic() - self._saved > max(EVERY_SECONDS, self._cost / SAVES_SHARE):
            self._keep_step()
        if stop is not None:
            raise stop

    def _keep_step(self) -> None:
        self.trainer.check_finite()  # what diverged is nothing to go on from
        self._seconds = time.monotonic() - self._began
        self.save()
        standing.keep("epoch", self.trainer.epoch, self.trainer.recipe.epochs, self.trainer.steps_begun)

    def save(self) -> None:
        """Keep what another process needs to go on."""
        began = time.monotonic()
        save_checkpoint(self.path, {
            "trainer": self.trainer.state(),
            "rows": self.rows,
            "seconds": self._seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "made_for": self._made_for,
        })  # fmt: skip
        self._saved = time.monotonic()
        self._cost = self._saved - began

    def _restore(self, state: State) -> None:
        if state.get("made_for", self._made_for) != self._made_for:  # earlier versions say nothing
            raise ValueError("it is of another configuration")
        rows, epoch, peak = state["rows"], state["trainer"]["epoch"], state.get("peak_memory_mb", 0.0)
        begun, seconds = state["trainer"].get("begun", {"steps": 0})["steps"], state.get("seconds", 0.0)
        most = self.trainer.recipe.max_steps
        steps = epoch * self._steps + begun
        steps = steps if most is None else min(steps, most)
        if [row["epoch"] for row in rows] != list(range(epoch)) or state["trainer"]["step"] != steps:
            raise ValueError(f"epoch {epoch}, {len(rows)} rows and step {state['trainer']['step']} do not fit together")
        if not 0 <= begun <= self._steps or not seconds >= 0:
            raise ValueError(f"{begun} steps of {self._steps} in {seconds} s cannot be")
        if not all(math.isfinite(value) for row in rows for value in (*row.values(), peak, seconds)):
            raise ValueError("a figure of its epochs is not finite")
        self.trainer.load_state(state["trainer"])
        self.rows, self._peak_before, self._seconds = rows, peak, seconds
