"""What the command line of `run.py` takes beside that of the stages."""

from __future__ import annotations

from dataclasses import dataclass

from runner.config.fields import number
from runner.config.schema import TrainConf


@dataclass
class RunConf(TrainConf):
    """The config of training, and how the command goes about its jobs.

    Attributes:
        jobs: how many run at once on this machine, each with its share of the threads and, where there are some, a GPU.
        dry_run: say what there is to do, and do nothing.
    """

    jobs: int = number(1, low=1, high=1024)
    dry_run: bool = False
