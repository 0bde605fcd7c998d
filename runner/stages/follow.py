"""What the processes of torchrun do that do not run the job: what rank 0 tells them, in step with it.

They open no run directory; what they write is prepared data that is not there yet. Each order is a method of
`Follower`; rank 0 gives it by its name, in `runner.stages.train`, `runner.stages.resume` and `runner.stages.search`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from glora.distributed import BrokenOff
from runner import torchrun
from runner.config.run import Run
from runner.signals import Stopped, deferred
from runner.stages.inputs import training_set
from runner.stages.model import build, searched, with_weights
from runner.stages.search import Fitness, fitness_of
from runner.stages.train import Job


def follow(run: Run) -> None:
    """Do what rank 0 says about `run`, until it ends."""
    follower = Follower(run)
    for word, *what in torchrun.orders():
        getattr(follower, word)(*what)
    torchrun.leave()


class Follower:
    """One of the other ranks, and the training or search that it takes part in.

    Args:
        run: as this process reads the command line; its device and its data's place are this process's own.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._job: Job | None = None
        self._fitness: Fitness | None = None

    def _own(self, run: Run) -> Run:
        self._job = self._fitness = None  # the memory of what came before
        return replace(run, compute=self.run.compute, data=self.run.data)

    def train(self, run: Run, split: str, winner: tuple[Hashable, bool] | None) -> None:
        """Be ready to train on a split; `winner` as in `train_phase`."""
        run = self._own(run)
        method = None
        if winner is not None:
            method = build(run)
            searched(method).keep(*winner)
        self._job = Job(run, training_set(run, split), method, ranks=torchrun.group())

    def load(self) -> None:
        """Take over the state of rank 0's training."""
        self._ready().trainer.load_state(torchrun.taken())

    def epoch(self) -> None:
        """Train an epoch, or what is left of it; how it ended is rank 0's to say."""
        job = self._ready()
        with suppress(FloatingPointError, BrokenOff), deferred() as waiting:
            job.trainer.train_epoch(job.inputs, job.labels, lambda: _heed(waiting()))

    def search(self, run: Run) -> None:
        """Be ready to measure candidates."""
        run = self._own(run)
        method = with_weights(build(run), torchrun.taken(), Path("the weights of rank 0"))
        self._fitness = fitness_of(run, searched(method))

    def measure(self, subnets: Sequence[Hashable]) -> None:
        """Measure this rank's share of candidates."""
        if self._fitness is None:
            raise ValueError("candidates came before the search")
        self._fitness.measure_share(subnets)

    def _ready(self) -> Job:
        if self._job is None:
            raise ValueError("an epoch came before its training")
        return self._job


def _heed(stop: Stopped | None) -> None:
    if stop is not None:
        raise stop
