"""What the scripts share on the command line: Hydra with our schema, clear errors, a log on the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data import user_path
from runner import torchrun
from runner.attempt import ending, kept, list_jobs
from runner.config.compute import use_tf32
from runner.config.overrides import CONFIGS, check_keys, composing, gathering, known_keys, respelled
from runner.config.plugins import load_plugins
from runner.config.resolve import read_conf, resolve, typed_keys
from runner.config.run import Run
from runner.config.schema import TrainConf, register
from runner.config.sweeps import register_resolvers
from runner.signals import SIGNALLED, stoppable
from runner.stages.follow import follow
from runner.tracking import standing
from runner.tracking.memory import keep_freed_memory
from runner.tracking.outcomes import Outcome, begin
from runner.tracking.progress import no_terminal, to_terminal

FULL_ERROR = "HYDRA_FULL_ERROR"
MULTIRUN = ("--multirun", "-m")

Job = Callable[[DictConfig, set[str]], object]
"""Takes what Hydra composed and the keys that were typed."""

Finish = Callable[[list[Any]], int | None]
"""Takes what the jobs returned; returns the exit status, None being 0."""


def main(
    stage: Callable[[Run], object],
    finish: Finish = lambda values: None,
    without_task: Callable[[TrainConf], object] | None = None,
    schema: type[TrainConf] = TrainConf,
) -> None:
    """Compose the config from the command line, run `stage` for every job of the sweep, then `finish` once.

    The exit status is that of `launch`. Of several processes that torchrun started, rank 0 does this and the others
    follow it.

    Args:
        stage: takes the run that a job's overrides name.
        finish: gets what the stages returned, see `launch`.
        without_task: takes the place of `stage` where no task is named, with the config; None: a task must be.
        schema: see `launch`.
    """

    def job(raw: DictConfig, typed: set[str]) -> object:
        if without_task is None or raw.get("dataset") is not None:
            run = replace(resolve(raw, typed), overrides=tuple(HydraConfig.get().overrides.task))
            standing.begin(run.directory)
            if torchrun.leads():
                return stage(run)
            follow(run)
            return None
        conf = read_conf(raw, schema)
        load_plugins(conf.plugins)
        return without_task(replace(conf, output_root=str(user_path(conf.output_root, "output_root"))))

    launch(job, finish if torchrun.leads() else lambda values: None, schema=schema, shared=True)


def launch(
    job: Job,
    finish: Finish = lambda values: None,
    config: str = "train",
    schema: type[Any] = TrainConf,
    gather: bool = False,
    quiet: bool = False,
    shared: bool = False,
    configs: Path = CONFIGS,
) -> None:
    """Run `job` for every job of the command line's sweep, then `finish` once.

    A failure of one job is said at once, keeps no other from its turn, and stands in the list that ends a sweep. The
    process ends with 128 + signal where one stopped it (the rest is not started then), else with 3 where an error is
    this project's own (a traceback), 2 where a user can mend it (a line), else with what `finish` returned.

    Args:
        job: takes what Hydra composed and the keys that were typed.
        finish: gets what the jobs returned, which must be something that JSON holds: a launcher may run them in other
            processes. Its exit status counts if no job failed.
        config: the YAML of `configs` to start from.
        schema: the dataclass of its keys; a script with keys of its own beside those of training extends `TrainConf`.
            Where it has them, `renamed` says what old keys are now, `spelled` what the config calls what is typed.
        gather: the jobs only say what is wanted and `finish` does it: not at all if a job failed, commas sweep without
            --multirun, and Hydra leaves no record of the sweep.
        quiet: the log shows warnings alone, on standard error.
        shared: several processes that torchrun started may share the job, if it is one.
        configs: the folder of the YAML and of its groups.
    """
    register(schema, config)
    register_resolvers()
    _set_process(quiet)
    torchrun.begin()
    outcomes, beside = begin(), list[Outcome]()  # of the jobs, and of what is around them

    @hydra.main(config_path=str(configs), config_name=config, version_base="1.3")
    def composed(raw: DictConfig) -> None:
        _set_process(quiet)  # a launcher's process has not been through `launch`
        # A failure is not raised: the other jobs of a sweep go on, and the exit status tells in the end.
        with stoppable(), kept(outcomes.add):
            outcomes.begin()
            outcomes.add(Outcome(job(raw, typed_keys(HydraConfig.get().overrides.task))))

    with ending(beside), tempfile.TemporaryDirectory() as scratch, _hydra_raises():
        if not shared:
            torchrun.refuse_several("this is none that can be shared")
        if swept := {*MULTIRUN} & {*sys.argv}:
            torchrun.refuse_several(f"{swept.pop()} is of several")
        sys.argv[1:] = respelled(sys.argv[1:], getattr(schema, "spelled", {}))
        check_keys(sys.argv[1:], known_keys(schema, configs), getattr(schema, "renamed", {}), configs)
        if gather:
            sys.argv[1:] = gathering(sys.argv[1:], Path(scratch))
        with composing(composed, sys.argv[1:]):
            try:
                composed()
            except OSError:  # of the sweep's folder
                raise
            except Exception:
                if not outcomes.started():  # words that do not compose, no such launcher: nothing to list
                    outcomes.planned = []
                raise
    came, returned = outcomes.gather(), None
    failed = any(outcome.error is not None for outcome in came + beside)
    stopped = any(outcome.status > SIGNALLED for outcome in beside)
    if not stopped and not (gather and failed):
        with ending(beside):
            returned = finish([o.value for o in came if o.error is None and not o.passed_over])
    if outcomes.folder is not None and not gather and failed and came:
        list_jobs(came, stopped)
    status = max((outcome.status for outcome in came + beside), default=0) or returned
    if status:
        sys.exit(status)


def _set_process(quiet: bool) -> None:
    use_tf32(False)
    keep_freed_memory()
    if torchrun.leads():
        to_terminal(warnings_only=quiet)
    else:
        no_terminal()
    standing.begin()


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise what it finds wrong with a command line instead of printing it and ending the process."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before
