"""What chooses the better subnet on few images: hits, loss or probability? Measured without the test images.

    python -m tools.selection_study dataset=digits trainer=mini [subnets=200] [splits=1000]
    python -m tools.selection_study -m dataset=digits,textures seed=0,1 trainer=mini method=glora_plus

The overrides are those of train.py, whose supernet must be finished. Draws `subnets` random subnets as the first
generation of a search does (within its `search.max_params` and `search.max_share`) and keeps what each says of every
image of val200. Then, `splits` times over, half of the subnets stand for the candidates of a search and some of the
images for its selection split: the one that each rule chooses is measured on the remaining images. Writes
<run>/selection/selection.json; several runs end in one table.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from glora.evaluation import Batches, predict
from glora.methods import Searched
from runner.cli import launch
from runner.config.fields import number
from runner.config.resolve import resolve
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.report.differences import interval
from runner.report.render import to_rich
from runner.report.tables import MISSING, Table, percent
from runner.rundir.files import locked, write_json
from runner.stages.inputs import Preprocess, split
from runner.stages.search import search_choice, size_limit
from runner.tracking.of_run import environment
from runner.tracking.progress import Progress
from tools.supernets import draw, held_out_supernet

log = logging.getLogger(f"glora.{__name__}")
Array = NDArray[np.float64]
SEED = 0
"""Of the divisions."""
SHARES = (0.125, 0.25, 0.5)
"""Parts of the images that choose; the others measure."""


@dataclass
class SelectionConf(TrainConf):
    """The config of a run, how many subnets are drawn, and how often subnets and images are divided."""

    subnets: int = number(200, low=4)
    splits: int = number(1000, low=10)


@dataclass(frozen=True)
class Outcomes:
    """What S subnets say of N images: `hits` and `losses` (S, N), in nats, and their sizes `params` (S,)."""

    hits: Array
    losses: Array
    params: Array


def chosen(outcomes: Outcomes, images: NDArray[np.intp], rule: str) -> int:
    """The subnet that `rule` chooses on these images.

    Args:
        outcomes: of the subnets to choose from.
        images: their columns.
        rule: "accuracy", whose ties go to fewer parameters, "accuracy, ties by loss", or "loss" and "probability",
            whose ties go to the accuracy; what is equal then, to fewer parameters and the first.
    """
    hits, losses = outcomes.hits[:, images].sum(1), outcomes.losses[:, images]
    keys = {
        "accuracy": (outcomes.params, -hits),
        "accuracy, ties by loss": (outcomes.params, losses.mean(1), -hits),
        "loss": (outcomes.params, -hits, losses.mean(1)),
        "probability": (outcomes.params, -hits, -np.exp(-losses).mean(1)),
    }[rule]
    return int(np.lexsort(keys)[0])  # the last key counts first


RULES = ("accuracy", "accuracy, ties by loss", "loss", "probability")


def compare(outcomes: Outcomes, share: float, splits: int) -> dict[str, Any]:
    """Accuracy on the images that did not choose, mean over random divisions of subnets and images.

    Args:
        outcomes: of all subnets and images.
        share: of the images that choose.
        splits: how many divisions.

    Returns:
        "images" that choose, the mean accuracy of "any" candidate, of the "best" one in hindsight and of every rule's,
        and of every rule but the accuracy how often it chose "better" and "worse" than that.
    """
    subnets, images = outcomes.hits.shape
    rng, few = np.random.default_rng(SEED), max(1, round(share * images))
    found: dict[str, list[float]] = {name: [] for name in ("any", "best", *RULES)}
    for _ in range(splits):
        some = rng.permutation(subnets)[: subnets // 2]
        order = rng.permutation(images)
        candidates = Outcomes(outcomes.hits[some], outcomes.losses[some], outcomes.params[some])
        held_out = candidates.hits[:, order[few:]].mean(1)
        found["any"].append(float(held_out.mean()))
        found["best"].append(float(held_out.max()))
        for rule in RULES:
            found[rule].append(float(held_out[chosen(candidates, order[:few], rule)]))
    gains = {rule: np.subtract(found[rule], found["accuracy"]) for rule in RULES[1:]}
    return {
        "images": few,
        **{name: statistics.fmean(values) for name, values in found.items()},
        "better": {rule: float((gain > 0).mean()) for rule, gain in gains.items()},
        "worse": {rule: float((gain < 0).mean()) for rule, gain in gains.items()},
    }


def outcomes_of(run: Run, supernet: Searched[Hashable], count: int) -> Outcomes:
    """Draw subnets of the run's finished supernet and ask each about every image of val200."""
    space, evaluator, val = supernet.space, supernet.evaluator(), split(run, "val200")
    limit = size_limit(search_choice(run), space)
    batches = Batches(val.images, Preprocess(run), run.compute.device, keep=True)
    hits, losses, params = [], [], []
    with Progress(f"{run.task.id}, {run.method.label}", count) as progress:
        for subnet in draw(space, count, "selection", limit):
            said = predict(evaluator.write(subnet), batches, val.labels, run.compute.dtype)
            hits.append((said.classes == val.labels.cpu()).double().numpy())
            losses.append(-said.probability.double().clamp(min=1e-38).log().numpy())  # float32 has no less
            params.append(space.params(subnet))
            progress.step(f"{100 * hits[-1].mean():.1f}%")
    return Outcomes(np.stack(hits), np.stack(losses), np.array(params, dtype=np.float64))


def measure(run: Run, count: int, splits: int) -> dict[str, Any]:
    """Compare the rules on one supernet; writes and returns selection.json.

    Raises:
        ConfigError: without a finished supernet, for methods without subnets, and where val200 was trained on.
    """
    supernet, directory = held_out_supernet(run, "to choose from"), run.directory / "selection"
    with locked(directory):
        outcomes = outcomes_of(run, supernet, count)
        record = {
            "dataset": run.task.id,
            "run": str(run.directory.relative_to(run.output_root)),
            "subnets": count,
            "splits": splits,
            "environment": environment(run),
            "chosen_on": [compare(outcomes, share, splits) for share in SHARES],
        }
        write_json(directory / "selection.json", record)
    print(f"written: {directory / 'selection.json'}")
    return record


def study_table(records: list[dict[str, Any]]) -> Table:
    """A row for each rule and number of images that choose: means over runs, and differences to the accuracy's pick."""
    rows = []
    for place in zip(*(r["chosen_on"] for r in records), strict=True):
        images = str(place[0]["images"])
        for name in ("any", *RULES, "best"):
            mean = percent(statistics.fmean(one[name] for one in place))
            if name not in RULES[1:]:
                rows.append([images, name, mean, MISSING, MISSING, MISSING])
                continue
            by_task: dict[str, list[float]] = {}
            for record, one in zip(records, place, strict=True):
                by_task.setdefault(record["dataset"], []).append(100 * (one[name] - one["accuracy"]))
            gain = interval([statistics.fmean(gains) for gains in by_task.values()]) or MISSING
            odds = [percent(statistics.fmean(one[how][name] for one in place)) for how in ("better", "worse")]
            rows.append([images, name, mean, gain, *odds])
    return Table(
        f"What chooses the better of {records[0]['subnets'] // 2} subnets: accuracy (%) on the other images of val200",
        ["Images", "Chosen by", "Accuracy", "To accuracy's", "Better", "Worse"],
        rows,
        [f"means over {len(records)} supernet{'s' * (len(records) > 1)}; Images: how many choose; any: mean of all "
         "candidates; best: in hindsight",
         "To accuracy's: points above the subnet with the most hits, mean over tasks, 95 % percentile interval over "
         "resampled tasks; Better, Worse: how often (%) it had more or fewer hits on the other images"],
    )  # fmt: skip


def command(raw: DictConfig, typed: Collection[str]) -> dict[str, Any]:
    """Measure what the config says."""
    return measure(resolve(raw, typed), raw.subnets, raw.splits)


def show(records: list[dict[str, Any]]) -> None:
    """The table of all runs of the call."""
    if records:
        to_rich(study_table(records))


if __name__ == "__main__":
    launch(command, show, schema=SelectionConf)
