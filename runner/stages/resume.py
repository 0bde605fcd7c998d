"""Going on with a killed training: its resume file must be of this very training, and hold nothing out of range."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

from glora.train import Trainer
from runner.config.protocol import Phase
from runner.config.run import Run
from runner.rundir.checkpoints import State, load_checkpoint, save_checkpoint

log = logging.getLogger(f"glora.{__name__}")


class Resumable:
    """A training's state on the disk: the trainer's, the rows of its epochs, and its peak memory so far.

    Args:
        run: what is trained.
        directory: where everything of it goes, below that of the run.
        phase: which training it is.
        trainer: what trains.
        content_hash: of its images.
        count: how many they are.
    """

    def __init__(
        self, run: Run, directory: Path, phase: Phase, trainer: Trainer, content_hash: str, count: int
    ) -> None:
        self.path, self.trainer = directory / f"resume_{phase.split}.pt", trainer
        self.rows: list[dict[str, Any]] = []
        self.peak_memory_mb = 0.0
        self._steps = count // run.recipe.batch_size
        told = [run.identity, vars(run.recipe), os.path.relpath(directory, run.directory), phase.split, content_hash]
        self._made_for = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def load(self) -> None:
        """Continue from the newest resume file that fits; those that do not are named in the log."""
        if load_checkpoint(self.path, self._restore):
            log.info("resuming after epoch %d", self.trainer.epoch)

    def save(self, peak_memory_mb: float) -> None:
        """Keep what another process needs to go on."""
        save_checkpoint(self.path, {
            "trainer": self.trainer.state(),
            "rows": self.rows,
            "peak_memory_mb": peak_memory_mb,
            "made_for": self._made_for,
        })  # fmt: skip

    def _restore(self, state: State) -> None:
        if state.get("made_for", self._made_for) != self._made_for:  # earlier versions say nothing
            raise ValueError("it is of another configuration")
        rows, epoch, peak = state["rows"], state["trainer"]["epoch"], state.get("peak_memory_mb", 0.0)
        most = self.trainer.recipe.max_steps
        steps = epoch * self._steps if most is None else min(epoch * self._steps, most)
        if [row["epoch"] for row in rows] != list(range(epoch)) or state["trainer"]["step"] != steps:
            raise ValueError(f"epoch {epoch}, {len(rows)} rows and step {state['trainer']['step']} do not fit together")
        if not all(math.isfinite(value) for row in rows for value in (*row.values(), peak)):
            raise ValueError("a figure of its epochs is not finite")
        self.trainer.load_state(state["trainer"])
        self.rows, self.peak_memory_mb = rows, peak
