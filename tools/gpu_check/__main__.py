"""Everything that a GPU has to show, in one call: tests, steps, candidates, a task, a profile, long runs at the end.

    python -m tools.gpu_check [device=cuda:0] [budget=480] [parts=[steps,candidates]] [smoke=true device=cpu]

Each part is a process of its own with a limit of its own; what one does not use, the later ones may. The record is
written after each, so that a call which is cut off leaves what was done.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import DictConfig

from data import user_path
from runner.cli import launch
from runner.config.compute import devices
from runner.config.errors import ConfigError
from runner.config.fields import number, problems_of
from runner.config.resolve import read_conf
from tools.gpu_check.parts import PARTS, run_all
from tools.gpu_check.record import Record


@dataclass
class CheckConf:
    """The keys; `budget` is in seconds, of everything together."""

    device: str = "cuda"
    smoke: bool = False
    budget: int = number(480, low=1)
    parts: list[str] = field(default_factory=lambda: list(PARTS))
    output: str = "outputs/gpu_check"


def check_all(conf: CheckConf) -> int:
    """Run the parts and print the table; the status is 1 if one failed."""
    folder = user_path(conf.output, "output")
    folder.mkdir(parents=True, exist_ok=True)
    command = f"python -m tools.gpu_check {' '.join(sys.argv[1:])}".rstrip()
    record = Record(command, conf.device, conf.smoke, conf.budget)
    run_all(record, conf.parts, folder)
    print("", *record.lines(), "", f"written: {folder / 'record.json'} and record.md", sep="\n")
    return int(any(outcome.status.startswith("failed") for outcome in record.parts.values()))


def command(raw: DictConfig) -> int:
    """Check the keys, then everything.

    Raises:
        ConfigError: with every problem, one a line.
    """
    conf = read_conf(raw, CheckConf)
    problems = list(problems_of(conf))
    problems += [f"parts: {name} is not one of {', '.join(PARTS)}" for name in conf.parts if name not in PARTS]
    known = [name for name in devices() if name != "auto"]
    if conf.device not in known:
        problems.append(f"device={conf.device} is not one of {', '.join(known)}; type device=cpu smoke=true to try it")
    elif conf.device == "cpu" and not conf.smoke:
        problems.append("device=cpu would take hours; type smoke=true, whose sizes are tiny")
    if problems:
        raise ConfigError("\n".join(problems))
    return check_all(conf)


if __name__ == "__main__":
    launch(
        lambda raw, typed: command(raw),
        finish=lambda values: max(values, default=0),
        config="gpu_check",
        schema=CheckConf,
        quiet=True,
        configs=Path(__file__).resolve().parent,
    )
