"""How long runs take on this device: from finished ones where there are any, else from a few measured steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch

from glora.evaluation import Batches, predict
from runner.config.run import Run
from runner.report.result import Record
from runner.stages.evaluate import COMPARED_IMAGES
from runner.stages.inputs import Preprocess, TrainingSet
from runner.stages.train import Job as Training
from runner.sweep.jobs import DONE, Job, Progress
from runner.tracking.of_run import device_name

BATCH = 16
"""Images of a measured step, at most."""


class Hours:
    """Seconds that runs still need.

    Args:
        records: finished results; those of this device count.
        measures: whether steps are measured where no finished result tells.
    """

    def __init__(self, records: Iterable[Record], measures: bool = True) -> None:
        self._measures, self._rates = measures, dict[str, tuple[float, float] | None]()
        self._spent: dict[str, list[tuple[float, float]]] = {}
        for record in records:
            device = (record.get("environment") or {}).get("device")
            key = (device, record["backbone"], record["method"], record.get("recipe"))
            self._spent.setdefault(str(key), []).append(_spent(record))

    def left(self, job: Job, progress: Progress) -> float | None:
        """Seconds until the job is done if it runs alone; None where nothing tells."""
        if progress.state == DONE:
            return 0.0
        run = job.run
        key = str((device_name(run.compute.device), run.backbone.name, run.method.name, run.recipe_digest))
        if key in self._spent:
            training, rest = (statistics.median(part) for part in zip(*self._spent[key], strict=True))
            return float(training * (1 - progress.share) + rest)
        rates = self._measured(run)
        return None if rates is None else _seconds(run, *rates, done=progress.share)

    def _measured(self, run: Run) -> tuple[float, float] | None:
        if not self._measures:
            return None
        key = repr((run.backbone, run.method.name, run.method.options, run.recipe.sampling, run.recipe.draws))
        if key not in self._rates:
            try:
                self._rates[key] = _rates(run)
            except Exception:  # noqa: BLE001 (whatever it is, the run itself meets it and says it in its own words)
                self._rates[key] = None
        return self._rates[key]


def _spent(record: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of the training, and of what comes after it."""
    training, *rest = (record.get(k) or 0.0 for k in ("training_seconds", "search_seconds", "tuning_seconds"))
    return training, sum(rest)


def _rates(run: Run) -> tuple[float, float]:
    """Seconds for training on an image and for evaluating one, of random images and untrained weights."""
    # Random weights cost the same, and compiling would take longer than what it saves here.
    run = replace(run, backbone=replace(run.backbone, pretrained=False, weights=None),
                  compute=replace(run.compute, compile="off"))  # fmt: skip
    count, device, size = min(BATCH, run.recipe.batch_size), run.compute.device, run.data.image_size
    run = replace(run, recipe=replace(run.recipe, batch_size=count, max_steps=3))
    images = torch.randint(256, (3 * count, 3, size, size), dtype=torch.uint8, device=device)
    labels = torch.arange(3 * count, device=device) % run.task.num_classes
    training = Training(run, TrainingSet(images, labels, "measured"))
    steps = []
    for epoch in range(2):  # the first warms up
        training.trainer.epoch = epoch
        training.trainer.step = 0
        began = time.perf_counter()
        training.trainer.train_epoch(training.inputs, training.labels)
        steps.append((time.perf_counter() - began) / len(labels))
    began = time.perf_counter()
    predict(training.method.model, Batches(images.cpu(), Preprocess(run), device), labels)
    return steps[-1], (time.perf_counter() - began) / len(labels)


def _seconds(run: Run, train: float, evaluate: float, done: float) -> float:
    """What the stages of a run take at these seconds per image; a share of the training is behind it."""
    points = 1 if run.grid is None else len(run.grid.points())
    sizes, protocol = run.task.split_sizes, run.protocol
    phases = protocol.phases(run.method.retrained)
    epochs = run.recipe.epochs
    seconds = train * epochs * sum(_size(sizes, p.split) for p in phases) * points * (1 - done)
    test = sizes.get("test", 0)
    seconds += evaluate * test
    search = run.search
    if search is not None:
        final = _size(sizes, protocol.final)
        tried = 1
        if search.searches:  # beside random search
            tried = 2 * search.settings.get("generations", 1) * search.settings.get("population", 1)
        chosen = min(search.selection_images, _size(sizes, protocol.selection))
        tuned = search.finetune_epochs * (1 + search.scratch) + (search.retrain.epochs if search.retrain else 0)
        beside = 0 if run.method.retrained else search.random_subnets + 1 + search.searches
        seconds += evaluate * (tried * chosen + beside * min(COMPARED_IMAGES, test)) + train * tuned * final
    return seconds


def _size(sizes: Mapping[str, int], split: str) -> int:
    return sizes.get(split) or sum(sizes.get(part, 0) for part in ("train800", "val200"))
