"""What W&B shows of a finished evaluation beside its figures: classes, confusions, wrong images, and the adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.protocol import WEIGHTS
from runner.config.run import Run
from runner.report.predictions import PREDICTIONS, confusion, read_examples, read_labels
from runner.rundir.records import WINNER
from runner.stages.winner import TUNED
from runner.tracking.of_run import page_id
from runner.tracking.tracker import Tracker

if TYPE_CHECKING:
    import wandb

log = logging.getLogger(f"glora.{__name__}")
CHARTED = 50
"""Up to so many classes W&B draws the confusion matrix itself; of more, it shows our picture."""
MOST_BYTES = 200_000_000
"""Larger weights, those of full fine-tuning, are no adapter: W&B knows them by their digest alone."""


def show_result(tracker: Tracker, run: Run, record: Mapping[str, Any], result: Path) -> None:
    """Send what belongs to the record of `result`.

    Raises:
        ConfigError: if the predictions beside it are damaged.
    """
    predictions = result.with_name(PREDICTIONS)
    if predictions.exists():  # results of earlier versions have none, nor has the best epoch on test
        counts = confusion(predictions)
        names = _names(run, len(counts))
        rows = [(k, names[k], n, float(counts[k, k]) / n) for k in range(len(counts)) if (n := int(counts[k].sum()))]
        tracker.log_table("test/classes", ("class", "name", "images", "accuracy"), rows)
        tracker.send("images", lambda place: place.shown(_pictures(predictions, names)))
    tracker.send("artifact", lambda place: lambda run_: log_artifacts(run_, run, record))


def _names(run: Run, count: int) -> list[str]:
    named = run.data.own.classes if run.data.own is not None else ()
    return [*named[:count], *(f"class {k}" for k in range(len(named), count))]


def _pictures(predictions: Path, names: list[str]) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        import wandb

        shown: dict[str, Any] = {}
        label, predicted = (classes.tolist() for classes in read_labels(predictions))
        drawn = predictions.parent / "plots" / "confusion.png"
        if len(names) <= CHARTED:
            title = "Confusion matrix on test"
            shown["test/confusion"] = wandb.plot.confusion_matrix(None, label, predicted, names, title)
        elif drawn.is_file():
            shown["test/confusion"] = wandb.Image(str(drawn))
        examples = [
            wandb.Image(
                e.thumbnail,
                caption=f"image {e.index}: {names[e.label]} ({e.probability} %) taken for {names[e.predicted]}",
            )
            for e in read_examples(predictions)
        ]
        return shown | ({"test/examples": examples} if examples else {})

    return make


def _measured(run: Run) -> Path:
    """The weights behind the result."""
    if run.search is None or not (run.method.retrained or run.search.finetune_epochs):
        return run.directory / run.protocol.weights_file(final=True)
    return run.search.directory / ("retrained" if run.method.retrained else TUNED) / WEIGHTS


def _artifact(kind: str, name: str, metadata: Mapping[str, Any], weights: Path, *files: Path) -> wandb.Artifact:
    import wandb

    made = wandb.Artifact(name, kind, metadata=dict(metadata))
    for path in (weights, *files):
        if path.is_file() and path.stat().st_size <= MOST_BYTES:
            made.add_file(str(path), path.name, policy="immutable", skip_cache=True)  # it lies there already
        elif path is weights:
            log.info("%s stays here: W&B is sent no file above %d MB", path, MOST_BYTES / 1e6)
    return made


def log_artifacts(page: wandb.Run, run: Run, record: Mapping[str, Any]) -> None:
    """Log the adapter; before it the supernet in which it was found, as the run's input where W&B takes it as one."""
    inputs = {k: record.get(k) for k in ("dataset", "data_hash", "backbone", "weights", "seed", "protocol")}
    name, config = f"{run.task.id}-{run.method.name}-seed{run.seed}", run.directory / "config.json"
    if run.search is not None:
        weights = run.directory / run.protocol.weights_file(final=not run.method.retrained)
        supernet = _artifact("supernet", f"{run.task.id}-{run.directory.name}", inputs, weights, config)
        if page.offline:
            page.log_artifact(supernet)
        else:
            page.use_artifact(supernet)
        inputs["supernet"] = supernet.name
    figures = {k: record.get(k) for k in ("trained", "method", "label", "params", "val_accuracy", "test_accuracy")}
    directory = run.result_directory
    winner = [directory / "best.json", directory / WINNER, directory / "result.json", config]
    if run.search is not None:
        winner.append(directory / f"subnet_{run.search.name}.json")
    page.log_artifact(_artifact("adapter", f"{name}-{page_id(run)[:6]}", inputs | figures, _measured(run), *winner))
