"""What the command line of `run.py` takes beside that of the stages."""

from __future__ import annotations

from dataclasses import dataclass

from runner.config.fields import number
from runner.config.schema import TrainConf


@dataclass
class RunConf(TrainConf):
    """`jobs` run at once on this machine; `dry_run` stops behind the plan."""

    jobs: int = number(1, low=1, high=1024)
    dry_run: bool = False
