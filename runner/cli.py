"""What the scripts share on the command line: Hydra with our schema, clear errors, a log on the terminal."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from data import DataError, user_path
from glora.backbones import WeightsError
from runner.config.compute import use_tf32
from runner.config.errors import ConfigError, NotSearched
from runner.config.overrides import CONFIGS, check_keys, explain, gathering, known_keys, respelled
from runner.config.plugins import load_plugins
from runner.config.resolve import read_conf, resolve, typed_keys
from runner.config.run import Run
from runner.config.schema import TrainConf, register
from runner.config.sweeps import register_resolvers
from runner.tracking.memory import keep_freed_memory
from runner.tracking.outcomes import Outcome, begin
from runner.tracking.progress import to_terminal
from runner.tracking.terminal import quiet_end

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""What a disk says that is the user's to mend."""

FULL_ERROR = "HYDRA_FULL_ERROR"

Job = Callable[[DictConfig, set[str]], object]
"""Takes what Hydra composed and the keys that were typed."""

Finish = Callable[[list[Any]], int | None]
"""Takes what the jobs returned; returns the exit status, None being 0."""


def main(
    stage: Callable[[Run], object],
    finish: Finish = lambda values: None,
    without_task: Callable[[Path], object] | None = None,
) -> None:
    """Compose the config from the command line, run `stage` for every job of the sweep, then `finish` once.

    The exit status is 2 if any job failed.

    Args:
        stage: takes the run that a job's overrides name.
        finish: gets what the stages returned, see `launch`.
        without_task: takes the place of `stage` where no task is named, with `output_root`; None: a task must be.
    """

    def job(raw: DictConfig, typed: set[str]) -> object:
        if without_task is None or raw.get("dataset") is not None:
            return stage(resolve(raw, typed))
        conf = read_conf(raw, TrainConf)
        load_plugins(conf.plugins)
        return without_task(user_path(conf.output_root, "output_root"))

    launch(job, finish)


def launch(
    job: Job,
    finish: Finish = lambda values: None,
    config: str = "train",
    schema: type[Any] = TrainConf,
    gather: bool = False,
    quiet: bool = False,
    configs: Path = CONFIGS,
) -> None:
    """Run `job` for every job of the command line's sweep, then `finish` once; a mistake is one line and status 2.

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
        configs: the folder of the YAML and of its groups.
    """
    register(schema, config)
    register_resolvers()
    _set_process(quiet)
    outcomes = begin()

    def failed(error: Exception) -> None:
        _complain(error)
        outcomes.add(Outcome(error=str(error)))

    @hydra.main(config_path=str(configs), config_name=config, version_base="1.3")
    def composed(raw: DictConfig) -> None:
        _set_process(quiet)  # a launcher's process has not been through `launch`
        # A failure is not raised: the other jobs of a sweep go on, and the exit status tells in the end.
        with _reported(failed), quiet_end():
            outcomes.add(Outcome(job(raw, typed_keys(HydraConfig.get().overrides.task))))

    with tempfile.TemporaryDirectory() as scratch:
        with _reported(failed), _hydra_raises():
            sys.argv[1:] = respelled(sys.argv[1:], getattr(schema, "spelled", {}))
            check_keys(sys.argv[1:], known_keys(schema, configs), getattr(schema, "renamed", {}))
            if gather:
                sys.argv[1:] = gathering(sys.argv[1:], Path(scratch))
            composed()
        came = outcomes.gather()
    for outcome in came:
        if outcome.error is not None and outcome.overrides:  # printed in a process whose output may be elsewhere
            print(f"error in {outcome.overrides}: {outcome.error}", file=sys.stderr)
    failures = any(outcome.error is not None for outcome in came)
    status: int | None = 2
    if not (gather and failures):
        with _reported(_complain), quiet_end():
            status = finish([outcome.value for outcome in came if outcome.error is None])
    if failures or status:
        sys.exit(2 if failures else status)


def _set_process(quiet: bool) -> None:
    use_tf32(False)
    keep_freed_memory()
    to_terminal(warnings_only=quiet)


def _complain(error: Exception) -> None:
    print(f"error: {error}", file=sys.stderr)


@contextmanager
def _reported(report: Callable[[Exception], object]) -> Iterator[None]:
    """Hand what is the user's to mend to `report`; anything else is raised."""
    try:
        yield
    except (ConfigError, DataError, WeightsError, FloatingPointError) as error:
        in_a_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        if not (isinstance(error, NotSearched) and in_a_sweep):
            report(error)
    except CompactHydraException as error:
        report(ConfigError(explain(error)))
    except OSError as error:
        if error.errno not in DISK:
            raise
        report(ConfigError(f"{error.filename or 'the disk'}: {error.strerror}"))


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
