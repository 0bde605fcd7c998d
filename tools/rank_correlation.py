"""Do inherited weights rank subnets as training them alone does? The standard check of weight sharing.

    python -m tools.rank_correlation dataset=digits trainer=mini [subnets=20] [alone_epochs=60]

The overrides are those of train.py, whose supernet must be finished. Draws `subnets` subnets as a training step does,
measures each on val200 with the weights it inherits, trains each alone from the pre-trained backbone with the
supernet's recipe (`alone_epochs`: for another number of epochs), measures it on val200 again, and compares the two
orders: Kendall's tau-b and Spearman's rho with bootstrap intervals. Writes <run>/rank_correlation/e<epochs>; trained
subnets are in its file, so a killed run goes on after the last one and more `subnets` are added to those there.
"""

from __future__ import annotations

import logging
import math
import statistics
import warnings
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from scipy.stats import DegenerateDataWarning, bootstrap, kendalltau, spearmanr

from data import Split
from glora.evaluation import accuracy
from glora.typed import Count, Share, Typed
from runner.cli import launch
from runner.config.errors import ConfigError
from runner.config.fields import number
from runner.config.resolve import resolve
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.report.figure import attempt, new_figure, save, tidy
from runner.rundir.files import locked, write_json
from runner.rundir.records import Record, read
from runner.stages.inputs import Preprocess, TrainingSet, split, training_set
from runner.stages.model import searched
from runner.stages.train import Job
from runner.stages.tune import chosen
from runner.tracking.of_run import environment
from runner.tracking.progress import Progress, log_file
from tools.supernets import draw, held_out_supernet

log = logging.getLogger(f"glora.{__name__}")
Pairs = Sequence[tuple[float, float]]
Values = Sequence[float]
RESAMPLES, SEED = 1000, 0


class Compared(Typed, extra="allow"):
    """One subnet: its accuracies on val200, its size, and in its other keys the space's encoding."""

    params: Count
    inherited: Share
    alone: Share


class Correlation(Record):
    """`rank_correlation.json`, finished or not."""

    subnets: list[Compared]


@dataclass
class CorrelateConf(TrainConf):
    """The config of a run, how many subnets are compared, and for how many epochs each is trained alone."""

    subnets: int = number(20, low=1)
    alone_epochs: int | None = number(None, low=1)


def train_alone(run: Run, subnet: Hashable, data: TrainingSet, val: Split) -> float:
    """val200 accuracy of one subnet trained from the pre-trained backbone with the recipe, seed and order of `run`."""
    job = Job(run, data, subnet=subnet)
    while not job.trainer.done:
        job.trainer.train_epoch(job.inputs, job.labels)
    with job.trainer.evaluated():
        return accuracy(searched(job.method).evaluator().write(subnet), val.images, val.labels, job.prep)


def correlate(run: Run, count: int, epochs: int) -> Path:
    """Train what is not trained yet, write rank_correlation.json and .png; returns their directory.

    Args:
        run: the supernet.
        count: how many subnets at least; those of earlier calls stay.
        epochs: of each training alone; 0 for as many as the supernet had.

    Raises:
        ConfigError: without a finished supernet, for methods without subnets, and where val200 was trained on.
    """
    supernet = held_out_supernet(run, "that share weights")
    run = chosen(run)
    alone = replace(run, recipe=replace(run.recipe, epochs=epochs or run.recipe.epochs))
    directory = run.directory / "rank_correlation" / f"e{alone.recipe.epochs}"
    path, space, evaluator = directory / "rank_correlation.json", supernet.space, supernet.evaluator()
    prep, title = Preprocess(run), f"{run.task.id}, {run.method.label}"
    with locked(directory), log_file(directory / "rank_correlation.log"):
        rows = [row.model_dump() for row in read(path, Correlation).subnets] if path.exists() else []
        try:
            finished = {space.decode(row) for row in rows}
        except ValueError as error:
            raise ConfigError(f"{path} holds no subnet of this model ({error}); {Correlation.remedy}") from error
        missing = [subnet for subnet in draw(space, count, "alone") if subnet not in finished]
        log.info("%d subnets are finished, %d to train", len(rows), len(missing))
        data, val = training_set(alone, "train800"), split(run, "val200")
        with Progress(f"{title} alone", len(rows) + len(missing), len(rows)) as progress:
            for subnet in missing:
                inherited = accuracy(evaluator.write(subnet), val.images, val.labels, prep)
                found = train_alone(alone, subnet, data, val)
                sizes = {"params": space.params(subnet), "inherited": inherited, "alone": found}
                rows.append({**space.encode(subnet), **sizes})
                write_json(path, {"subnets": rows})
                figures = f"inherited {100 * inherited:.1f}%, alone {100 * found:.1f}%"
                progress.step(figures)
                log.info("subnet %d: %s, %s parameters", len(rows), figures, f"{sizes['params']:,}")
        record = {
            "run": str(run.directory.relative_to(run.output_root)),
            "epochs": {"supernet": run.recipe.epochs, "alone": alone.recipe.epochs},
            "lr": run.recipe.lr,
            "images": {"trained_on": len(data.labels), "measured_on": len(val.labels)},
            "environment": environment(run),
            **statistics_of([(row["inherited"], row["alone"]) for row in rows]),
            "subnets": rows,
        }
        write_json(path, record)
        log.info("%s", summary(record))
        attempt(partial(plot, title=f"{title}, {run.backbone.name}"), directory / "rank_correlation.png", record)
    return directory


def statistics_of(pairs: Pairs) -> dict[str, Any]:
    """Kendall's tau-b and Spearman's rho of (inherited, alone) accuracies with 95 % bootstrap intervals, mean and sd.

    A value is None where it is not defined: fewer than two subnets, or one accuracy for all.
    """
    found: dict[str, Any] = {}
    for i, name in enumerate(("inherited", "alone")):
        values = [pair[i] for pair in pairs]
        sd = statistics.stdev(values) if len(values) > 1 else None
        found[name] = {"mean": statistics.fmean(values), "sd": sd}
    return {"kendall_tau_b": _estimate(kendalltau, pairs), "spearman_rho": _estimate(spearmanr, pairs), **found}


def _estimate(correlation: Callable[[Values, Values], Any], pairs: Pairs) -> dict[str, Any]:
    """The value and the percentile interval over resampled subnets; resamples without a value are left out."""

    def statistic(one: Values, other: Values) -> float:
        defined = min(len(set(one)), len(set(other))) > 1
        return float(correlation(one, other).statistic) if defined else math.nan

    one, other = zip(*pairs, strict=True)
    value = statistic(one, other)
    if math.isnan(value):
        return {"value": None, "interval95": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # scipy's own interval is NaN if one resample's value is
        found = bootstrap((one, other), statistic, n_resamples=RESAMPLES, paired=True, vectorized=False,
                          method="percentile", rng=SEED)  # fmt: skip
    return {"value": value, "interval95": np.nanpercentile(found.bootstrap_distribution, (2.5, 97.5)).tolist()}


def summary(record: dict[str, Any]) -> str:
    """One line for the log and the figure."""
    found = []
    for name, key in (("Kendall's tau-b", "kendall_tau_b"), ("Spearman's rho", "spearman_rho")):
        value, interval = record[key]["value"], record[key]["interval95"]
        shown = "undefined" if value is None else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"
        found.append(f"{name} {shown}")
    return ", ".join(found) + f", {len(record['subnets'])} subnets"


def plot(record: dict[str, Any], path: Path, title: str) -> Path:
    """Inherited against stand-alone accuracy, a point per subnet, coloured by its parameters."""
    from matplotlib.ticker import EngFormatter

    rows = record["subnets"]
    figure = new_figure(6.4, 4.8)
    axes = figure.subplots()
    x, y = ([100 * row[key] for row in rows] for key in ("inherited", "alone"))
    sizes = [row["params"] for row in rows]
    dots = axes.scatter(x, y, c=sizes, cmap="viridis", s=44, edgecolors="black", linewidths=0.5)
    figure.colorbar(dots, label="subnet parameters", format=EngFormatter(sep=""))
    epochs = record["epochs"]
    axes.set_xlabel(f"inherited weights, {epochs['supernet']} epochs shared: val200 accuracy (%)")
    axes.set_ylabel(f"trained alone, {epochs['alone']} epochs: val200 accuracy (%)")
    figure.suptitle(f"{title}\n{summary(record)}", fontsize=9)  # over the colour bar too, where it has room
    tidy(axes)
    return save(figure, path)


def command(raw: DictConfig, typed: Collection[str]) -> None:
    """Correlate as the config says."""
    print(f"written: {correlate(resolve(raw, typed), raw.subnets, raw.alone_epochs or 0)}")


if __name__ == "__main__":
    launch(command, schema=CorrelateConf)
