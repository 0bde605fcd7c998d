"""The training stage: the phases of the protocol, resumable after every epoch."""

from __future__ import annotations

import logging
import random
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from data import DataError, Split
from glora.backbones import WeightsError
from glora.evaluation import Batches, accuracy, score
from glora.methods import GLoRA, Linear, Searched
from glora.search import Member, Space
from glora.train import Trainer
from runner import config as cfg
from runner.build import (
    Preprocess,
    TrainingSet,
    balanced_cut,
    build,
    device_of,
    load_trained,
    open_tracker,
    split,
    test_split,
    training_set,
)
from runner.choosing import choose
from runner.config import REFERENCE
from runner.folder import (
    digest,
    has_weights,
    load_checkpoint,
    locked,
    read_json,
    remove_checkpoints,
    run_folder,
    save_checkpoint,
    write_json,
    write_weights,
)
from runner.hardware import PeakMemory
from runner.progress import Progress, log_file
from runner.report import draw_training
from runner.runtime import plan
from runner.schema import TrainConf

log = logging.getLogger("glora")
LOGGED_IMAGES = 1000
"""Selection images that the training log evaluates at most."""
KEPT_FEATURES = 4
"""Splits whose features are kept for later points of a grid and later phases."""
_features: dict[str, Tensor] = {}


def fixed_subnets(space: Space) -> dict[str, Member]:
    """What the training log evaluates: the largest, the smallest and three seeded subnets, never a fresh draw."""
    named = {"largest": space.largest, "smallest": space.smallest}
    return named | {f"random{i}": space.sample(random.Random(f"fixed-{i}")) for i in range(3)}


def subnet_accuracies(supernet: Searched, images: Tensor, labels: Tensor, prep: Preprocess) -> dict[str, float]:
    """The accuracies of the fixed subnets with the supernet's weights, by name."""
    evaluator, subnets = supernet.evaluator(), fixed_subnets(supernet.space)
    batches = Batches(images, prep, labels.device, keep=True)
    return {n: score(evaluator.write(k), batches, labels) for n, k in subnets.items()}


def probe_features(c: TrainConf, probe: Linear, images: Tensor, content_hash: str, prep: Preprocess) -> Tensor:
    """What the probe's classifier sees of these images; computed once for all points of a grid and all phases."""
    key = digest([asdict(c.backbone), c.seed, c.resize, str(images.device), content_hash, len(images)])
    if key not in _features:
        while len(_features) >= KEPT_FEATURES:
            del _features[next(iter(_features))]
        _features[key] = probe.features(images, prep)
    return _features[key]


class Job:
    """One phase's training, seen uniformly: what runs, on which input, and how it is evaluated.

    A linear probe runs on features computed once, since its backbone never changes, unless images are augmented or
    the model's logits are not those of one classifier on its features; everything else runs on images.
    """

    def __init__(self, c: TrainConf, data: TrainingSet) -> None:
        self.method, self.prep, self.searched = build(c), Preprocess(c), cfg.searched(c)
        self.probe = None
        if isinstance(self.method, Linear) and isinstance(data.images, Tensor):
            self.probe = self.method if self.method.reads_features(self.prep(data.images[:2])) else None
        self.cached = self.probe is not None
        self.plan = plan(c, device_of(c))
        self.labels = data.labels
        self._c = c
        self.inputs = self._inputs(data.images, data.content_hash) if isinstance(data.images, Tensor) else data.images
        model = self.method.model
        if self.probe is not None:
            assert self.probe.head is not None
            model = self.probe.head
        self.normalize: Callable[[Tensor], Tensor] = nn.Identity() if self.cached else self.prep
        if self.plan.graph == "static" and isinstance(self.method, GLoRA):
            self.method.supernet.use_static_graph()
        self.trainer = Trainer(
            self.plan.compiled(model),
            self.method.trainable(),
            cfg.recipe(c),
            self.normalize,
            c.seed,
            self.method.before_step,
            self.method.no_decay(),
            self.method.eval_backbone,
            self.plan.precision,
        )

    def _inputs(self, images: Tensor, content_hash: str) -> Tensor:
        return images if self.probe is None else probe_features(self._c, self.probe, images, content_hash, self.prep)

    def evaluator(self, s: Split) -> Callable[[], dict[str, float]]:
        """A function that gives the accuracies on `s`: of the fixed subnets of a supernet, or of the method."""
        inputs, model = self._inputs(s.images, s.content_hash), self.trainer.model
        supernet = self.method
        if not isinstance(supernet, Searched) or not self.searched:
            return lambda: {"accuracy": accuracy(model, inputs, s.labels, self.normalize)}
        return lambda: subnet_accuracies(supernet, inputs, s.labels, self.prep)


def train(c: TrainConf) -> Path:
    """Train under the protocol; returns the run folder. Resumes what was killed, skips what is finished."""
    folder = run_folder(c)
    with locked(folder), log_file(folder / "train.log"):
        write_json(folder / "config.json", cfg.identity(c))
        phases = [("train800", "weights.safetensors")]
        if c.protocol.name == "clean_1000" and not cfg.retrained(c):
            phases.append(("train800val200", "weights_1000.safetensors"))
        elif c.protocol.name == REFERENCE:
            phases = [("train800val200", "weights.safetensors")]
        if c.hparams == "val_grid":
            c = choose(c, folder, train_point)
            draw_training(folder)
        for number, (name, file) in enumerate(phases):
            if has_weights(folder / file):
                log.info("%s is finished, nothing to do", folder / file)
            else:
                train_phase(c, folder, name, file, validate=number == 0)
                draw_training(folder)
    return folder


def train_point(c: TrainConf, folder: Path) -> dict[str, Any]:
    """Train one point of a grid on train800 in `folder`, unless that is done, and evaluate it on val200."""
    if not has_weights(folder / "weights.safetensors"):
        train_phase(c, folder, "train800", "weights.safetensors", validate=True)
        draw_training(folder)
    method, val, prep = load_trained(c, folder, final=False), split(c, "val200"), Preprocess(c)
    if isinstance(method, Searched) and cfg.searched(c):
        found = subnet_accuracies(method, val.images, val.labels, prep)
    elif isinstance(method, Linear) and method.reads_features(prep(val.images[:2])):
        assert method.head is not None
        seen = probe_features(c, method, val.images, val.content_hash, prep)
        found = {"accuracy": accuracy(method.head, seen, val.labels, nn.Identity())}
    else:
        found = {"accuracy": accuracy(method.model, val.images, val.labels, prep)}
    return {"val": found, "seconds": read_json(folder / "train_train800.json", "seconds")["seconds"]}


def _training_data(c: TrainConf, name: str) -> TrainingSet:
    """The training images; where they are missing, the error also says whether the weights are."""
    try:
        return training_set(c, name)
    except DataError as error:
        try:
            build(c)
        except WeightsError as other:
            raise DataError(f"{error}\n{other}") from error
        raise


def train_phase(
    c: TrainConf, folder: Path, split_name: str, file: str, validate: bool, owner: TrainConf | None = None
) -> None:
    """Train on one split and leave `file` in `folder`; resumes what was killed.

    Args:
        c: what is trained.
        folder: where everything of it goes.
        split_name: the training images.
        file: the name of the weights.
        validate: also evaluate on val200 every `trainer.eval_every` epochs (reference protocol: on test, every ten).
        owner: the run that this training belongs to, if it is not `c`'s own.
    """
    reference = c.protocol.name == REFERENCE
    data = _training_data(c, split_name)
    # Cut where it is long, as a few-shot list is: looking at it would cost more than the training.
    val = (test_split(c) if reference else balanced_cut(split(c, "val200"), LOGGED_IMAGES)) if validate else None
    job = Job(c, data)
    trainer, evaluate = job.trainer, None if val is None else job.evaluator(val)
    if isinstance(job.method, Searched) and job.searched:
        log.info(job.method.space.describe())
    log.info(job.plan.describe(job.method.model))
    resume = folder / f"resume_{split_name}.pt"
    rows: list[dict[str, Any]] = []
    memory, earlier_peak = PeakMemory(device_of(c)), 0.0
    state = load_checkpoint(resume)
    if state is not None:
        trainer.load_state(state["trainer"])
        rows, earlier_peak = state["rows"], state.get("peak_memory_mb", 0.0)
        log.info("resuming after epoch %d", trainer.epoch)

    def peak() -> float:
        return round(max(earlier_peak, memory.megabytes()), 1)

    every = 10 if reference else c.trainer.eval_every
    # Phase two has its own metrics: its epochs would collide with those of the first.
    home = folder if validate else folder / split_name
    job_type = ("retrain" if owner else "train") + ("" if validate else f"-{split_name}")
    with (
        open_tracker(owner or c, home, job_type) as tracker,
        Progress(f"{cfg.task(c).id} {c.method.name}", c.trainer.epochs, trainer.epoch) as progress,
    ):
        tracker.truncate_after(trainer.epoch)
        while not trainer.done:
            began = time.perf_counter()
            row: dict[str, Any] = {"epoch": trainer.epoch, **trainer.train_epoch(job.inputs, job.labels)}
            row["seconds"] = round(time.perf_counter() - began, 3)
            # A run cut short by max_steps ends without the costly look at val200.
            last = trainer.epoch == c.trainer.epochs
            if evaluate is not None and (trainer.epoch % every == 0 or last):
                row |= {f"val/{k}": v for k, v in evaluate().items()}
            rows.append(row)
            tracker.log(row, trainer.epoch)
            save_checkpoint(resume, {"trainer": trainer.state(), "rows": rows, "peak_memory_mb": peak()})
            words = f"loss {row['loss']:.3f} lr {row['lr']:.2e}"
            found = " ".join(f"{k} {100 * v:.1f}%" for k, v in row.items() if k.startswith("val/"))
            progress.step(f"{words} {found}")
            if found or not sys.stdout.isatty():
                log.info("epoch %d/%d %s %s", trainer.epoch, c.trainer.epochs, words, found)
    summary = {
        "split": split_name,
        "data_hash": data.content_hash,
        "images": len(data.labels),
        "steps": trainer.step,
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "peak_memory_mb": peak(),
        "rows": rows,
    }
    write_json(folder / f"train_{split_name}.json", summary)
    write_weights(folder / file, job.method.state_dict())
    remove_checkpoints(resume)
