"""`run.py`: every job of the command line from data to result, then the tables; `status` looks on."""

from __future__ import annotations

import functools
import logging
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data import DataError
from runner import torchrun
from runner.attempt import list_jobs
from runner.cli import MULTIRUN, launch, main
from runner.config.errors import ConfigError
from runner.config.resolve import read_conf, resolve
from runner.config.run import Run
from runner.report.result import Record, collect, read_result
from runner.report.show import show_results
from runner.report.tables import percent
from runner.rundir.lease import Held
from runner.signals import SIGNALLED
from runner.stages.evaluate import result_path
from runner.stages.follow import follow
from runner.stages.whole import whole
from runner.sweep.conf import RunConf
from runner.sweep.hours import Hours
from runner.sweep.jobs import Job
from runner.sweep.local import RETRY, one_by_one, side_by_side
from runner.sweep.plan import Plan
from runner.sweep.status import Board, looking, watch
from runner.tracking.outcomes import Outcome

log = logging.getLogger(f"glora.{__name__}")

STATUS = "status"
OWN = ("jobs", "dry_run")
"""Keys that are the command's and not its jobs'."""
LAUNCHER = ("hydra/launcher", "hydra.launcher")


@dataclass
class Command:
    """What the command line asks for, gathered job by job."""

    by_result: dict[Path, Job] = field(default_factory=dict)
    refused: list[Outcome] = field(default_factory=list)
    at_once: int = 1
    dry_run: bool = False

    def add(self, raw: DictConfig, typed: set[str]) -> None:
        """Take one job; one that cannot run is kept with its reason."""
        words = tuple(w for w in HydraConfig.get().overrides.task if w.partition("=")[0].lstrip("+") not in OWN)
        try:
            conf = read_conf(raw, RunConf)
            self.at_once, self.dry_run = conf.jobs, conf.dry_run
            job = Job(replace(resolve(raw, typed), overrides=words), words)
        except (ConfigError, DataError) as error:
            number = len(self.by_result) + len(self.refused)
            self.refused.append(Outcome(error=str(error), status=2, number=number, words=shlex.join(words)))
            return
        self.by_result.setdefault(result_path(job.run), job)

    @property
    def jobs(self) -> list[Job]:
        """One for each result, as typed first."""
        return list(self.by_result.values())

    def runnable(self) -> None:
        """Raise ConfigError where nothing can run, with the reasons."""
        if not self.jobs and self.refused:
            raise ConfigError("\n".join(dict.fromkeys(str(job.error) for job in self.refused)))

    @property
    def roots(self) -> list[Path]:
        """Where the results go."""
        return list(dict.fromkeys(job.run.output_root for job in self.jobs))

    @functools.cached_property
    def records(self) -> list[Record]:
        """The results that are finished as the command begins."""
        return [record for root in self.roots for record in collect(root)[0]]

    def plan(self) -> Plan:
        """Say what there is to do."""
        plan = Plan.of(self.jobs, Hours(self.records))
        print(*plan.lines(self.at_once), sep="\n")
        for job in self.refused:
            print(f"cannot run: {job.words}: {(job.error or '').splitlines()[0]}")
        if self.dry_run:
            print(*plan.listed(), sep="\n")
        return plan

    def board(self) -> Board:
        """The jobs to look at."""
        return Board(self.jobs, self.records)

    def run(self) -> list[Outcome]:
        """Every job on this machine; those that cannot run are among what comes of it."""
        count = 0

        def told(job: Job, outcome: Outcome) -> None:
            nonlocal count
            count += 1
            print(f"[{count}/{len(self.jobs)}] {job.name}: {_said(job, outcome)}", flush=True)

        if self.at_once == 1:
            return one_by_one(self.jobs, told) + self.refused
        look, end = looking(self.board())
        try:
            return side_by_side(self.jobs, self.at_once, told, look) + self.refused
        finally:
            end()


def _said(job: Job, outcome: Outcome) -> str:
    if outcome.error is not None:
        return outcome.error.splitlines()[0]
    try:
        found = read_result(result_path(job.run))
    except ConfigError as error:  # the tables name it too
        return str(error)
    return f"{percent(found['test_accuracy'])} % on test with {found['params']:,} parameters"


def command(args: list[str]) -> None:
    """Do what the arguments of `run.py` say; ends the process with its status."""
    if args[:1] == [STATUS]:
        sys.argv[1:] = _without_launcher(args[1:])
        _gathered(_look)
        return
    if not any(arg.startswith(LAUNCHER) for arg in args):
        sys.argv[1:] = args
        _gathered(_do)
        return
    sys.argv[1:] = _without_launcher(args)
    asked = _gathered(_begin)
    if not asked.dry_run:
        sys.argv[1:] = args if {*MULTIRUN} & {*args} else [MULTIRUN[0], *args]  # a launcher is of sweeps alone
        main(_stage, show_results, schema=RunConf)


def _gathered(finish: Callable[[Command], int | None]) -> Command:
    asked = Command()
    launch(asked.add, lambda _: finish(asked), schema=RunConf, gather=True, shared=True)
    return asked


def _without_launcher(args: list[str]) -> list[str]:
    return [arg for arg in args if not arg.startswith(LAUNCHER)]


def _stage(run: Run) -> tuple[str, bool]:
    """A job that a launcher started: it cannot be passed over and come back, so it awaits who is at its run."""
    said = False
    while True:
        try:
            whole(run)
            return str(run.output_root), run.tracking.details
        except Held as held:
            if not said:
                log.info("%s is in use by %s; awaited", held.folder, held.owner)
            said = True
            time.sleep(RETRY)


def _look(asked: Command) -> None:
    torchrun.refuse_several("status only looks on")
    asked.runnable()
    watch(asked.board())


def _begin(asked: Command) -> None:
    asked.runnable()
    if asked.at_once > 1:
        raise ConfigError(f"jobs={asked.at_once} is for this machine, and hydra/launcher= starts jobs itself; type one")
    torchrun.refuse_several("hydra/launcher= starts several")
    asked.plan()


def _do(asked: Command) -> int | None:
    asked.runnable()
    if not asked.jobs:  # Hydra was asked for something else, as by --cfg
        return None
    if asked.at_once > 1 or len(asked.jobs) > 1:
        torchrun.refuse_several(f"jobs={asked.at_once} is of several" if asked.at_once > 1 else
                                f"these are {len(asked.jobs)}")  # fmt: skip
    if not torchrun.leads():
        follow(asked.jobs[0].run)
        return None
    asked.plan()
    if asked.dry_run:
        return None
    came = asked.run()
    stopped = any(outcome.status > SIGNALLED for outcome in came)
    if not stopped and any(outcome.error is None for outcome in came):
        show_results([(str(root), asked.jobs[0].run.tracking.details) for root in asked.roots])
    if len(came) > 1:
        list_jobs(came, stopped)
    return max(outcome.status for outcome in came)
