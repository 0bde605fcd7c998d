"""What the jobs of one command came to, gathered in the process that was typed, wherever a launcher ran them.

Hydra hands what a job returns to its sweeper and no further, and launchers such as joblib and submitit run jobs in
processes of their own, whose memory is lost. Such a job leaves its outcome as a file in the folder of the sweep, which
the machines of a cluster share as they share the runs.
"""

from __future__ import annotations

import os
import platform
import secrets
import shlex
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from pydantic import JsonValue

from data import DataError
from glora.typed import Count
from runner.config.errors import ConfigError
from runner.rundir.files import write_json
from runner.rundir.records import Record, read
from runner.signals import SIGNALLED

NOT_STARTED = "not started"
SILENT = "its process ended without a word; its run directory has its last checkpoint"
"""Of jobs that left no outcome."""


@dataclass(frozen=True)
class Outcome:
    """What one job came to: what its stage returned (anything that JSON holds), or what its failure said."""

    value: Any = None
    error: str | None = None
    status: int = 0
    """The exit status that it asks for; above 128 where a signal stopped it."""
    passed_over: bool = False
    """There was nothing to do for it, and it has no value."""
    number: int = 0
    words: str = ""
    """The overrides of this job of a sweep, as a shell reads them."""

    def line(self) -> str:
        """For the list at the end of a sweep."""
        if self.error is None:
            return f"{'passed over' if self.passed_over else 'done'}: {self.words}"
        if self.error == NOT_STARTED:
            return f"{NOT_STARTED}: {self.words}"
        what = "stopped" if self.status > SIGNALLED else "error"
        return f"{what} in {self.words}: {'; '.join(self.error.splitlines())}"


class Left(Record):
    """An outcome as a file."""

    remedy = "run the same command again; what is finished is not done anew"
    value: JsonValue
    error: str | None
    status: Count
    passed_over: bool
    words: str


def _read(path: Path) -> Outcome:
    """The outcome that a job left; where its file is unreadable, that is the failure of this job alone."""
    number = int(path.stem)
    try:
        return Outcome(**vars(read(path, Left)), number=number)
    except (ConfigError, DataError) as error:
        return Outcome(error=str(error), status=2, number=number, words=f"job {number}")


def _process() -> str:
    return f"{platform.node()}:{os.getpid()}"


def in_a_sweep() -> bool:
    """Whether the job of this process is one of several."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _planned(config: DictConfig) -> list[str]:
    """The overrides of every job in order, as Hydra's own sweeper makes them; none where another one decides."""
    sweeper = config.hydra.sweeper
    if not str(sweeper.get("_target_")).endswith(f".{BasicSweeper.__name__}"):
        return []
    words = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    (jobs,) = BasicSweeper.split_arguments(parser.parse_overrides([*words, *config.hydra.overrides.task]), None)
    return [shlex.join(job) for job in jobs]


class Outcomes(Callback):
    """The outcomes of one command; launchers copy it into their processes along with the job."""

    def __init__(self) -> None:
        self.owner = _process()
        self.folder: Path | None = None
        self.planned: list[str] = []
        self.begun: set[int] = set()
        self.here: list[Outcome] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Called by Hydra in the process that was typed, before it launches any job."""
        self.folder = Path(config.hydra.sweep.dir).absolute() / f"outcomes-{secrets.token_hex(4)}"
        self.planned = _planned(config)

    def begin(self) -> None:
        """A job begins in this process.

        Raises:
            OSError: where that is to be written and cannot be.
        """
        if self._is_here():
            self.begun.add(_number())
        else:
            write_json(self._file("begun"), [])

    def add(self, outcome: Outcome) -> None:
        """Keep the outcome of the job that runs.

        Raises:
            OSError: where it is to be written and cannot be.
            ConfigError: in another process than the typed one, if Hydra's callback was taken out of the config.
        """
        words = shlex.join(HydraConfig.get().overrides.task) if in_a_sweep() else ""
        outcome = replace(outcome, number=_number(), words=words)
        if self._is_here():
            self.here.append(outcome)
        else:
            write_json(self._file("json"), asdict(outcome))

    def started(self) -> bool:
        """Whether any job has begun, in whichever process."""
        return bool(self.begun) or (self.folder is not None and any(self.folder.glob("*.begun")))

    def gather(self) -> list[Outcome]:
        """The outcomes of all jobs in their order; the files of other processes are removed.

        A job that left none, because it was not started or its process was killed, has failed.
        """
        found = {outcome.number: outcome for outcome in self.here}
        begun = set(self.begun)
        if self.folder is not None:
            begun |= {int(path.stem) for path in self.folder.glob("*.begun")}
            found |= {int(path.stem): _read(path) for path in self.folder.glob("*.json")}
            shutil.rmtree(self.folder, ignore_errors=True)
        for number, words in enumerate(self.planned):
            lost = Outcome(error=SILENT if number in begun else NOT_STARTED, status=2, number=number, words=words)
            found.setdefault(number, lost)
        return [found[number] for number in sorted(found)]

    def _is_here(self) -> bool:
        return _process() == self.owner

    def _file(self, suffix: str) -> Path:
        if self.folder is None:
            raise ConfigError("jobs in processes of their own need hydra.callbacks of configs/train.yaml")
        return self.folder / f"{_number():06d}.{suffix}"


def _number() -> int:
    return int(HydraConfig.get().job.num) if in_a_sweep() else 0


_current = Outcomes()


def begin() -> Outcomes:
    """New outcomes, those of the command that begins."""
    global _current
    _current = Outcomes()
    return _current


def current() -> Outcomes:
    """The outcomes of the command that runs; Hydra's callback (configs/train.yaml)."""
    return _current
