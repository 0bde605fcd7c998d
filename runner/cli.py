"""What the scripts share on the command line: Hydra with our schema, clear errors, a log on the terminal."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from data import DataError, user_path
from glora.backbones import WeightsError
from runner.config.compute import use_tf32
from runner.config.errors import ConfigError, NotSearched
from runner.config.plugins import load_plugins
from runner.config.resolve import read_conf, resolve, typed_keys
from runner.config.run import Run
from runner.config.schema import register
from runner.config.sweeps import register_resolvers
from runner.tracking.memory import keep_freed_memory
from runner.tracking.outcomes import Outcome, begin
from runner.tracking.progress import to_terminal
from runner.tracking.terminal import quiet_end

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""What a disk says that is the user's to mend."""


def _set_process() -> None:
    use_tf32(False)
    keep_freed_memory()
    to_terminal()


def main(
    stage: Callable[[Run], object],
    finish: Callable[[list[Any]], object] = lambda values: None,
    without_task: Callable[[Path], object] | None = None,
) -> None:
    """Compose the config from the command line, run `stage` for every job of the sweep, then `finish` once.

    The exit status is 2 if any job failed.

    Args:
        stage: takes the run that a job's overrides name.
        finish: gets what the stages returned, which must be something that JSON holds: a launcher may run them in
            other processes.
        without_task: takes the place of `stage` where no task is named, with `output_root`; None: a task must be.
    """
    register()
    register_resolvers()
    _set_process()
    outcomes = begin()

    def failed(error: Exception) -> None:
        print(f"error: {error}", file=sys.stderr)
        outcomes.add(Outcome(error=str(error)))

    try:
        sys.argv[1:] = [quote_tildes(word) for word in sys.argv[1:]]
    except DataError as error:
        failed(error)
        sys.exit(2)

    @hydra.main(
        config_path=str(Path(__file__).resolve().parent.parent / "configs"), config_name="train", version_base="1.3"
    )
    def job(raw: DictConfig) -> None:
        _set_process()  # a launcher's process has not been through `main`
        try:
            with quiet_end():
                if without_task is not None and raw.get("dataset") is None:
                    conf = read_conf(raw)
                    load_plugins(conf.plugins)
                    value = without_task(user_path(conf.output_root, "output_root"))
                else:
                    value = stage(resolve(raw, typed_keys(HydraConfig.get().overrides.task)))
                outcomes.add(Outcome(value))
        except (ConfigError, DataError, WeightsError, FloatingPointError) as error:
            if isinstance(error, NotSearched) and HydraConfig.get().mode == RunMode.MULTIRUN:
                return
            # Not raised: the other jobs of a sweep go on, and the exit status tells in the end.
            failed(error)
        except OSError as error:
            if error.errno not in DISK:
                raise
            failed(ConfigError(f"{error.filename or 'the disk'}: {error.strerror}"))

    job()
    came = outcomes.gather()
    for outcome in came:
        if outcome.error is not None and outcome.words:  # said in a process whose output may be elsewhere
            print(f"error in {outcome.words}: {outcome.error}", file=sys.stderr)
    failures = any(outcome.error is not None for outcome in came)
    try:
        with quiet_end():
            finish([outcome.value for outcome in came if outcome.error is None])
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        failures = True
    if failures:
        sys.exit(2)


def quote_tildes(word: str) -> str:
    """`key=~/a,~/b` as Hydra reads it, whose grammar takes a "~" in quotes only; other words as they are.

    Raises:
        DataError: for the home folder of nobody.
    """
    key, equals, values = word.partition("=")
    if not equals or word.startswith("-") or any(mark in values for mark in "'\"[]{}()"):
        return word
    paths = [value for value in values.split(",") if value.startswith("~")]
    for path in paths:
        user_path(path, key)
    return f"{key}={','.join(repr(value) if value in paths else value for value in values.split(','))}"


def own_number(name: str, default: int) -> int:
    """Take `name=<positive number>` off the command line: a word of one tool that is none of the config's."""
    given = [w for w in sys.argv[1:] if w.startswith(f"{name}=")]
    if not given:
        return default
    sys.argv[1:] = [w for w in sys.argv[1:] if w not in given]
    value = given[-1].removeprefix(f"{name}=")
    if not value.isdecimal() or int(value) < 1:
        print(f"error: {name}={value} must be a positive number such as {name}={default or 60}", file=sys.stderr)
        sys.exit(2)
    return int(value)
