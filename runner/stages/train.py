"""The training stage: the phases of the protocol, resumable after every epoch and inside long ones."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data import DataError, Split
from glora.backbones import WeightsError
from glora.distributed import ONE, Ranks
from glora.evaluation import Batches, accuracy, score
from glora.methods import Method, Searched
from glora.methods.linear_probe import Linear
from glora.search import Member, Space
from glora.train import Trainer
from runner import torchrun
from runner.config.errors import ConfigError
from runner.config.protocol import WEIGHTS, Phase
from runner.config.run import Run
from runner.report.show import draw_training
from runner.rundir.checkpoints import remove_checkpoints
from runner.rundir.files import locked, write_json
from runner.rundir.records import Summary, read
from runner.rundir.weights import has_weights, write_weights
from runner.signals import deferred
from runner.stages.inputs import Preprocess, TrainingSet, balanced_cut, selection_split, training_set
from runner.stages.model import build, load_trained, searched
from runner.stages.resume import Resumable
from runner.stages.tune import choose
from runner.tracking.environment import PeakMemory
from runner.tracking.of_run import one_page, open_tracker
from runner.tracking.progress import Progress, log_file

log = logging.getLogger(f"glora.{__name__}")
LOGGED_IMAGES = 1000
"""Selection images that the training log evaluates at most."""
CHECKED_IMAGES = 16
"""Training images whose logits must be finite before weights are called trained."""
KEPT_FEATURES = 4
"""Splits whose features are kept for later points of a grid and later phases."""
_features: dict[tuple[Any, ...], Tensor] = {}


def fixed_subnets(space: Space[Member]) -> dict[str, Member]:
    """What the training log evaluates: the largest, the smallest and three seeded subnets, never a fresh draw."""
    named = {"largest": space.largest, "smallest": space.smallest}
    return named | {f"random{i}": space.sample(random.Random(f"fixed-{i}")) for i in range(3)}


def subnet_accuracies(supernet: Searched[Member], images: Tensor, labels: Tensor, prep: Preprocess) -> dict[str, float]:
    """The accuracies of the fixed subnets with the supernet's weights, by name."""
    evaluator, subnets = supernet.evaluator(), fixed_subnets(supernet.space)
    batches = Batches(images, prep, labels.device, keep=True)
    return {n: score(evaluator.write(k), batches, labels) for n, k in subnets.items()}


def probe_features(run: Run, probe: Linear, images: Tensor, content_hash: str, prep: Preprocess) -> Tensor:
    """What the probe's classifier sees of these images; computed once for all points of a grid and all phases."""
    key = (repr(run.backbone), run.seed, run.data.resize, str(images.device), content_hash, len(images))
    if key not in _features:
        while len(_features) >= KEPT_FEATURES:
            del _features[next(iter(_features))]
        _features[key] = probe.features(images, prep)
    return _features[key]


class Job:
    """One phase's training, seen uniformly: what runs, on which input, and how it is evaluated.

    A linear probe runs on features computed once, since its backbone never changes, unless images are augmented or
    the model's logits are not those of one classifier on its features; everything else runs on images.

    Args:
        run: what is trained.
        data: the images it trains on.
        method: what trains on from its weights; None: a fresh one.
        subnet: of a supernet, the one subnet that trains; None: as the recipe draws them.
        ranks: the processes that share its batches.
    """

    def __init__(
        self,
        run: Run,
        data: TrainingSet,
        method: Method | None = None,
        subnet: Hashable | None = None,
        ranks: Ranks = ONE,
    ) -> None:
        self.run, self.method, self.prep = run, build(run) if method is None else method, Preprocess(run)
        # A winner that is tuned is the one subnet that its method holds.
        drawn = run.method.searched and run.search is not None and subnet is None
        self.supernet = searched(self.method) if drawn else None
        self.probe = None
        if isinstance(self.method, Linear) and isinstance(data.images, Tensor):
            self.probe = self.method if self.method.reads_features(self.prep(data.images[:2])) else None
        self.labels = data.labels
        self.inputs = self._inputs(data.images, data.content_hash) if isinstance(data.images, Tensor) else data.images
        # A probe's constructor refuses a model without a classifier.
        model = self.method.model if self.probe is None or self.probe.head is None else self.probe.head
        self.normalize: Callable[[Tensor], Tensor] = self.prep if self.probe is None else nn.Identity()
        self._plain = model
        self.compute = run.compute if method is None else replace(run.compute, graph=None)  # one subnet is one graph
        if self.compute.graph == "static":
            self.method.use_static_graph()
        if subnet is not None:
            searched(self.method).set(subnet)
        self.trainer = Trainer(
            model,
            self.method.trainable(),
            run.recipe,
            self.normalize,
            run.seed,
            None if run.method.searched else self.method.before_step,
            self.method.no_decay(),
            self.method.eval_backbone,
            self.compute.dtype,
            self.supernet,
            self.compute.compiled,
            ranks,
        )

    def _inputs(self, images: Tensor, content_hash: str) -> Tensor:
        return images if self.probe is None else probe_features(self.run, self.probe, images, content_hash, self.prep)

    def evaluator(self, s: Split) -> Callable[[], dict[str, float]]:
        """A function that gives the accuracies on `s`: of the fixed subnets of a supernet, or of the method."""
        inputs, model = self._inputs(s.images, s.content_hash), self.trainer.model
        supernet = self.supernet
        if supernet is None:
            return lambda: {"accuracy": accuracy(model, inputs, s.labels, self.normalize)}
        return lambda: subnet_accuracies(supernet, inputs, s.labels, self.prep)

    def check(self) -> None:
        """Raise FloatingPointError unless logits are finite; of a supernet, those of its largest and smallest subnet.

        The loss is of the weights before a step: that the last one was too wide shows here alone.
        """
        count = min(CHECKED_IMAGES, len(self.labels))
        if isinstance(self.inputs, Tensor):
            x = self.normalize(self.inputs[:count])
        else:
            x = self.inputs.batch(torch.arange(count), 0).to(self.labels.device)
        for subnet in (None,) if self.supernet is None else (self.supernet.space.largest, self.supernet.space.smallest):
            if self.supernet is not None:
                self.supernet.set(subnet)
            score(self._plain, [x], self.labels[:count])


def train(run: Run) -> Path:
    """Train under the protocol; returns the run directory. Resumes what was killed, skips what is finished."""
    directory = run.directory
    with locked(directory), log_file(directory / "train.log"), one_page(run):
        write_json(directory / "config.json", run.identity)
        if run.grid is not None:
            run = choose(run, train_point)
        for phase in run.protocol.phases(run.method.retrained):
            if not finished(directory, phase):
                train_phase(run, directory, phase)
    return directory


def finished(directory: Path, phase: Phase) -> bool:
    """Whether the training of a phase is finished; what a killed process left undone or behind is seen to then.

    Raises:
        ConfigError: if its weights or its summary are damaged, or the summary is missing.
    """
    weights, summary = directory / phase.file, directory / f"train_{phase.split}.json"
    if not has_weights(weights):
        return False
    log.info("%s is finished, nothing to do", weights)
    if not summary.exists():
        raise ConfigError(f"{summary} is missing; delete {weights} and train with the same overrides again")
    read(summary, Summary)
    remove_checkpoints(directory / f"resume_{phase.split}.pt")
    draw_training(directory, redraw=False)
    return True


def train_point(run: Run, directory: Path) -> dict[str, Any]:
    """Train one point of a grid in `directory`, unless that is done, and evaluate it on val200."""
    phase = run.protocol.phase(run.protocol.training, WEIGHTS)
    if not finished(directory, phase):
        train_phase(run, directory, phase)
    method, val, prep = load_trained(run, directory), selection_split(run), Preprocess(run)
    if run.method.searched:
        found = subnet_accuracies(searched(method), val.images, val.labels, prep)
    elif isinstance(method, Linear) and method.head is not None and method.reads_features(prep(val.images[:2])):
        features = probe_features(run, method, val.images, val.content_hash, prep)
        found = {"accuracy": accuracy(method.head, features, val.labels, nn.Identity())}
    else:
        found = {"accuracy": accuracy(method.model, val.images, val.labels, prep)}
    return {"val": found, "seconds": read(directory / f"train_{phase.split}.json", Summary).seconds}


def _training_data(run: Run, name: str) -> TrainingSet:
    """The training images; where they are missing, the error also says whether the weights are."""
    try:
        return training_set(run, name)
    except DataError as error:
        try:
            build(run)
        except WeightsError as other:
            raise DataError(f"{error}\n{other}") from error
        raise


def train_phase(
    run: Run,
    directory: Path,
    phase: Phase,
    owner: Run | None = None,
    method: Method | None = None,
    winner: tuple[Hashable, bool] | None = None,
) -> None:
    """Train on the images of one phase and leave its file in `directory`; resumes what was killed.

    Args:
        run: what is trained.
        directory: where everything of it goes.
        phase: its images and file; where it validates, the selection split is evaluated every `trainer.eval_every`
            epochs, or as often as the protocol says.
        owner: the run that this training belongs to, if it is not `run` itself.
        method: what trains on from its weights; None: a fresh one.
        winner: what `method.keep` was given, for the other processes of torchrun.
    """
    torchrun.order("train", run, phase.split, winner)
    data = _training_data(run, phase.split)
    job = Job(run, data, method, ranks=torchrun.group())
    trainer = job.trainer
    if job.supernet is not None:
        log.info(job.supernet.space.describe())
    log.info(job.compute.describe(job.method.model))
    kept = Resumable(
        run, directory, phase, trainer, data.content_hash, len(data.labels), PeakMemory(run.compute.device).megabytes
    )
    kept.load()
    # Cut where it is long, as a few-shot list is: evaluating it would cost more than the training. Not where its
    # accuracy is the result.
    val = selection_split(run) if phase.validate else None
    if val is not None and not run.protocol.selects_on_test:
        val = balanced_cut(val, LOGGED_IMAGES)
    rows, evaluate = kept.rows, None if val is None else job.evaluator(val)
    every, epochs = run.protocol.selection_every or run.eval_every, run.recipe.epochs
    with (
        open_tracker(owner or run, phase.folder(directory)) as tracker,
        Progress(f"{run.task.id} {run.method.name}", epochs, trainer.epoch) as progress,
    ):
        tracker.restore([{"step": row["epoch"] + 1, **row} for row in rows])  # logged after its epoch
        while not trainer.done:
            # A run cut short by max_steps ends without the costly evaluation.
            due = evaluate if (trainer.epoch + 1) % every == 0 or trainer.epoch + 1 == epochs else None
            with deferred() as waiting:
                row = kept.train_epoch(job.inputs, job.labels, waiting, keep_last=due is not None)
                if due is not None:
                    with trainer.evaluated():
                        row |= {f"val/{k}": v for k, v in due().items()}
                rows.append(row)
                tracker.log(row, trainer.epoch)
                kept.save()
                figures = f"loss {row['loss']:.3f} lr {row['lr']:.2e}"
                found = " ".join(f"{k} {100 * v:.1f}%" for k, v in row.items() if k.startswith("val/"))
                progress.step(f"{figures} {found}")
            if found or not sys.stdout.isatty():
                log.info("epoch %d/%d %s %s", trainer.epoch, epochs, figures, found)
    summary = {
        "split": phase.split,
        "data_hash": data.content_hash,
        "images": len(data.labels),
        "steps": trainer.step,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "peak_memory_mb": kept.peak_memory_mb,
        "rows": rows,
    }
    with trainer.evaluated():
        job.check()
        write_json(directory / f"train_{phase.split}.json", summary)
        write_weights(directory / phase.file, job.method.state_dict())
    remove_checkpoints(kept.path)
    draw_training(directory)
