"""What the jobs of one command came to, gathered in the process that was typed, wherever a launcher ran them.

Hydra hands what a job returns to its sweeper and no further, and launchers such as joblib and submitit run jobs in
processes of their own, whose memory is lost. Such a job leaves its outcome as a file in the folder of the sweep, which
the machines of a cluster share as they share the runs.
"""

from __future__ import annotations

import os
import platform
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from runner.config.errors import ConfigError
from runner.rundir.files import read_json, write_json


@dataclass(frozen=True)
class Outcome:
    """What one job came to: what its stage returned (anything that JSON holds), or what its failure said."""

    value: Any = None
    error: str | None = None
    overrides: str = ""
    """Of a job that ran in another process."""


def _process() -> str:
    return f"{platform.node()}:{os.getpid()}"


class Outcomes(Callback):
    """The outcomes of one command; launchers copy it into their processes along with the job."""

    def __init__(self) -> None:
        self.owner = _process()
        self.folder: Path | None = None
        self.here: list[Outcome] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra in the process that was typed, before it launches any job."""
        self.folder = Path(config.hydra.sweep.dir).absolute() / f"outcomes-{secrets.token_hex(4)}"

    def add(self, outcome: Outcome) -> None:
        """Keep the outcome of the job that runs.

        Raises:
            OSError: where it is to be written and cannot be.
            ConfigError: in another process than the typed one, if Hydra's callback was taken out of the config.
        """
        if _process() == self.owner:
            self.here.append(outcome)
            return
        if self.folder is None:
            raise ConfigError("jobs in processes of their own need hydra.callbacks of configs/train.yaml")
        hydra = HydraConfig.get()
        found = {"value": outcome.value, "error": outcome.error, "words": " ".join(hydra.overrides.task)}
        write_json(self.folder / f"{hydra.job.num:06d}.json", found)

    def gather(self) -> list[Outcome]:
        """All outcomes, those of other processes in the order of the jobs; their files are removed."""
        if self.folder is None:
            return self.here
        read = map(read_json, sorted(self.folder.glob("*.json")))
        found = [Outcome(r["value"], r["error"], r["words"]) for r in read]
        shutil.rmtree(self.folder, ignore_errors=True)
        return self.here + found


_current = Outcomes()


def begin() -> Outcomes:
    """New outcomes, those of the command that begins."""
    global _current
    _current = Outcomes()
    return _current


def current() -> Outcomes:
    """The outcomes of the command that runs; Hydra's callback (configs/train.yaml)."""
    return _current
