"""The evaluation stage: test once per finished run, kept in `result.json` and only read from then on."""

from __future__ import annotations

import logging
import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data import Split, list_info
from glora.backbones import file_sha256, find_weights
from glora.evaluation import Batches, Predictions, accuracy, predict
from glora.methods import Method, Searched
from glora.search import Member
from glora.state import digest
from runner.config.errors import ConfigError
from runner.config.protocol import WEIGHTS
from runner.config.run import Run, SearchChoice
from runner.report.predictions import PREDICTIONS, write_predictions
from runner.report.result import RANDOM, read_result, write_result
from runner.report.show import draw_classes
from runner.rundir.files import locked
from runner.rundir.records import Best, Clock, Summary, clock_file, read, read_best, read_subnet, read_winner
from runner.rundir.weights import read_weights
from runner.stages.inputs import Preprocess, balanced_cut, selection_split, target_splits, test_split
from runner.stages.model import load_trained, searched
from runner.stages.page import show_result
from runner.stages.search import search_choice
from runner.stages.tune import chosen, read_grid
from runner.stages.winner import SCRATCH, TUNED, load_tuned, require_tuned, tunings
from runner.tracking.of_run import environment, open_tracker

log = logging.getLogger(f"glora.{__name__}")
COMPARED_IMAGES = 1000
"""Test images that comparators see at most: two dozen subnets on all of them would cost more than the search."""


def result_path(run: Run) -> Path:
    """Where the run's result is kept. Another way to count classes is another result of the same run."""
    shots = run.data.shots
    subset = shots is not None and shots.class_subset == "dataset"
    return run.result_directory / "class_subset" / "result.json" if subset else run.result_directory / "result.json"


def evaluate(run: Run) -> dict[str, Any]:
    """Measure test once and keep the record; a second call only reads it.

    Raises:
        ConfigError: if training, or the search of a supernet, is not finished.
    """
    directory, result = run.result_directory, result_path(run)
    if result.exists():
        return _completed(run, directory, result)
    finished = directory / "retrained" / WEIGHTS if run.method.retrained else directory / "best.json"
    if run.method.searched and not finished.exists():
        raise ConfigError(f"{run.directory} is not searched yet; run search.py with the same overrides first")
    if run.search is not None:
        require_tuned(run.search)
    run = chosen(run)
    with locked(run.directory):
        try:
            # The predictions are written before the result, which says that all is done.
            record = _measure(run, directory, result.with_name(PREDICTIONS))
        except FloatingPointError as error:
            raise FloatingPointError(f"{run.directory}: {error}") from error
        record["trained"] = _trained(run, directory)
        write_result(result, record)
        draw_classes(result.with_name(PREDICTIONS))
        _summarize(run, directory, result, read_result(result))
    return record


def _completed(run: Run, directory: Path, result: Path) -> dict[str, Any]:
    """The record of a finished evaluation, and what the process that made it did not come to beside it."""
    record = read_result(result)
    try:
        if not (directory / "evaluate" / "summary.json").exists():
            with locked(run.directory):
                _summarize(run, directory, result, record)
        draw_classes(result.with_name(PREDICTIONS), redraw=False)
    except ConfigError as error:  # the record is there and counts
        log.warning("%s; without %s", error, directory / "evaluate")
    return record


def _summarize(run: Run, directory: Path, result: Path, record: dict[str, Any]) -> None:
    """Leave the record's figures in <directory>/evaluate/summary.json and W&B, which gets what is beside it too."""
    with open_tracker(run, directory / "evaluate") as tracker:
        figures = {k: v for k, v in record.items() if isinstance(v, (int, float, str, dict))}
        # To W&B first, whose page a table may end; to the disk last, where summary.json says that all is there.
        tracker.send("summary", lambda place: place.summary(figures))
        show_result(tracker, run, record, result)
        tracker.summary(figures)


def _trained(run: Run, directory: Path) -> dict[str, str]:
    """The weights behind the measured model by their files in the run directory, as digests of their tensors."""
    inherited = directory / "retrained" / WEIGHTS
    paths = [inherited if run.method.retrained else run.directory / run.protocol.weights_file(final=True)]
    paths += [] if run.search is None else [run.search.directory / name / WEIGHTS for name in tunings(run.search)]
    return {str(path.relative_to(run.directory)): digest(read_weights(path)) for path in paths}


def _on_test(model: nn.Module, test: Split, prep: Preprocess) -> tuple[float, Predictions]:
    found = predict(model, Batches(test.images, prep, test.labels.device), test.labels)
    return int((found.classes == test.labels.cpu()).sum()) / len(test.labels), found


def _measure(run: Run, directory: Path, kept: Path) -> dict[str, Any]:
    """The record; the predictions behind its accuracy go to `kept` where those weights still exist."""
    method, summary = final_method(run, directory)
    prep, test, protocol = Preprocess(run), test_split(run), run.protocol
    record = _description(run, method, summary, test)
    if run.method.searched and not run.method.retrained:
        supernet, search = searched(method), search_choice(run)
        record |= _measure_subnets(supernet, search, test, prep)
        plain = supernet.evaluator().write(read_winner(supernet.space, directory))
        record["test_accuracy"], predictions = _on_test(plain, test, prep)
        if search.finetune_epochs:
            record["comparators"]["untuned"] = {"test": record["test_accuracy"]}
            plain = load_tuned(run, search).merge()
            record |= _trained_on_val(run, plain, "tuned_val_accuracy")
            record["test_accuracy"], predictions = _on_test(plain, test, prep)
            record["tuning_seconds"] = read(directory / TUNED / f"train_{protocol.final}.json", Summary).seconds
            if search.scratch:
                scratch = load_tuned(run, search, SCRATCH).merge()
                record["comparators"]["scratch"] = {
                    "test": accuracy(scratch, test.images, test.labels, prep),
                    "seconds": read(directory / SCRATCH / f"train_{protocol.final}.json", Summary).seconds,
                }
    else:
        plain = method.model
        predictions = None
        if protocol.measured == "best":
            record["test_accuracy"] = _highest(run, summary)
        else:
            record["test_accuracy"], predictions = _on_test(plain, test, prep)
        if run.method.searched:
            record |= _selection(read_best(directory), directory)
            record |= _trained_on_val(run, plain, "retrained_val_accuracy")
        elif protocol.selects_on_test:
            record["val_accuracy"] = None
        else:
            model, val = load_trained(run, run.directory).model, selection_split(run)
            record["val_accuracy"] = accuracy(model, val.images, val.labels, prep)
    if run.data.shots is not None:
        # The winner alone, and nothing is chosen by it.
        record["targets"] = {n: _target_accuracy(plain, s, kept, prep) for n, s, kept in target_splits(run)}
    if predictions is not None:
        write_predictions(kept, predictions, test.labels, test.images)
    return record


def _trained_on_val(run: Run, model: nn.Module, key: str) -> dict[str, float]:
    """Accuracy on the selection images of a winner that trained after it was selected, unless it trained on them."""
    if not run.protocol.phase(run.protocol.final, WEIGHTS).validate or run.protocol.selects_on_test:
        return {}
    val = selection_split(run)
    return {key: accuracy(model, val.images, val.labels, Preprocess(run))}


def _highest(run: Run, summary: Summary) -> float:
    """What a protocol that measures the best epoch reports."""
    found = summary.accuracies("val/accuracy")
    if not found:
        raise ConfigError(f"the training in {run.directory} has no val/accuracy in its rows; {Summary.remedy}")
    return max(found)


def _description(run: Run, method: Method, summary: Summary, test: Split) -> dict[str, Any]:
    """What a record says besides accuracies."""
    weights = find_weights(run.backbone)
    record = {
        "dataset": run.task.id,
        "group": run.task.group,
        "suite": run.task.suite,
        "method": run.method.name,
        "label": run.method.label,
        "form": run.form,
        **({"ranks": list(run.method.options["ranks"])} if "ranks" in run.method.options else {}),
        "backbone": run.backbone.name,
        "family": run.backbone.family,
        "protocol": run.protocol.name,
        "mark": run.protocol.mark,
        "comparable": run.protocol.comparable,
        "hparams": run.hparams,
        "seed": run.seed,
        "overrides": list(run.named_by),
        "training_images": summary.images,
        "batch_size": run.recipe.batch_size,
        "training_seconds": summary.seconds,
        "peak_memory_mb": summary.peak_memory_mb,
        "params": method.params(),
        "selected_on_test": run.protocol.selects_on_test,
        "normalization": run.data.normalization,
        "source": test.source,
        "codec": test.codec,
        "resize": test.resize,
        "trainer": run.trainer,
        "epochs": run.recipe.epochs,
        "recipe": run.recipe_digest,
        "lr": run.recipe.lr,
        "precision": run.compute.precision,
        "environment": environment(run),
        "data_hash": {"train": summary.data_hash, "test": test.content_hash},
        "comparators": {},
        "weights": {"tag": run.backbone.timm_name, "sha256": file_sha256(weights) if weights else None},
    }
    if run.grid is not None:
        record["grid"] = read_grid(run).model_dump(exclude_unset=True)
    return record | _lists_record(run)


def final_method(run: Run, directory: Path) -> tuple[Method, Summary]:
    """The method with the weights that are measured, and the summary of their training (seconds: all trainings)."""
    final, protocol = f"train_{run.protocol.final}.json", run.protocol
    if not run.method.retrained:
        method = load_trained(run, run.directory, protocol.weights_file(final=True))
        return method, read(run.directory / final, Summary)
    training, retrained = run.retraining(read_best(directory).subnet), directory / "retrained"
    summary = read(retrained / final, Summary)
    supernet = read(run.directory / f"train_{protocol.training}.json", Summary)
    seconds = round(supernet.seconds + summary.seconds, 1)
    return load_trained(training, retrained), summary.model_copy(update={"seconds": seconds})


def _lists_record(run: Run) -> dict[str, Any]:
    """What tells few-shot and domain-generalisation results apart, and the lists they come from; else nothing."""
    shots = run.data.shots
    if shots is None:
        return {}
    info = list_info(run.task.id, run.data.root, shots.shots, shots.list_seed, run.data.image_size)
    return vars(shots) | {f"lists_{k}": getattr(info, k) for k in ("lists", "doubled_lines", "overlap")}


class _Restricted(nn.Module):
    """A model whose classes other than `kept` cannot be predicted."""

    def __init__(self, model: nn.Module, kept: list[int]) -> None:
        super().__init__()
        self.model, self.kept = model, kept

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, classes)."""
        logits = self.model(x)
        out = torch.full_like(logits, torch.finfo(logits.dtype).min)
        out[:, self.kept] = logits[:, self.kept]
        return out


def _target_accuracy(model: nn.Module, s: Split, kept: list[int] | None, prep: Preprocess) -> float:
    return accuracy(model if kept is None else _Restricted(model, kept), s.images, s.labels, prep)


def _selection(best: Best, directory: Path) -> dict[str, Any]:
    """What the search says of its winner; its accuracy is with the supernet's weights, as it was selected."""
    return {
        "params": best.params,
        "selection_images": best.images,
        "val_accuracy": best.val_accuracy,
        "search": directory.name,
        "search_seconds": _search_seconds(directory, best.search),
        **({} if best.noise is None else {"fitness": best.fitness, "selection_noise": best.noise.model_dump()}),
        "comparators": {} if best.random_search is None else {"random_search": best.random_search.model_dump()},
    }


def _search_seconds(directory: Path, name: str) -> float | None:
    """Wall time of the search, without the random search beside it; None where none is kept: nothing was searched."""
    clock = clock_file(directory, name)
    return read(clock, Clock).seconds if clock.exists() else None


def _measure_subnets(method: Searched[Member], search: SearchChoice, test: Split, prep: Preprocess) -> dict[str, Any]:
    """Test accuracy of the declared comparators, none of which selects anything.

    The random subnets are the first ones of a seeded order. All see at most `COMPARED_IMAGES`, the same ones always,
    and where those are not all the winner sees them too.
    """
    directory, draws = search.directory, search.random_subnets
    space, evaluator, best = method.space, method.evaluator(), read_best(directory)
    few = balanced_cut(test, COMPARED_IMAGES)

    def on(s: Split, subnet: Member) -> float:
        return accuracy(evaluator.write(subnet), s.images, s.labels, prep)

    winner, rng = read_winner(space, directory), random.Random("comparators")
    found: dict[str, Any] = {
        "images": len(few.labels),
        **({} if few is test else {"winner": {"test": on(few, winner)}}),
        "largest": {"test": on(few, space.largest), "params": space.params_range[1]},
    }
    if draws:
        drawn = torch.tensor([on(few, space.sample(rng)) for _ in range(draws)])
        found[RANDOM] = {"subnets": draws, "test_mean": drawn.mean().item(), "test_sd": drawn.std().item()}
    if best.random_search is not None:
        subnet = read_subnet(space, directory, "random")
        found["random_search"] = {**best.random_search.model_dump(), "test": on(few, subnet)}
    return {**_selection(best, directory), "comparators": found}
