"""Compare the searches on one trained supernet at equal budget, over several search seeds, by hypervolume.

    python -m tools.compare_searches dataset=digits trainer=mini search=mini [seeds=5]

The overrides are those of train.py and search.py; `search.seed` is where the seeds start. Each search lies in the
directory that search.py would give it, so finished ones are reused and a killed one resumes. Writes
<run>/comparison/<budget>.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from data.files import read_bytes, write_bytes
from glora.search import SEARCHES, Candidate, State, best_first, hypervolume, pareto_front
from runner.cli import launch
from runner.config.fields import number
from runner.config.identity import digest, without_later
from runner.config.resolve import resolve
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.config.search import directory_of
from runner.report.figure import attempt
from runner.report.plots import plot_fronts
from runner.report.render import to_rich, write_all
from runner.report.tables import Table
from runner.rundir.files import write_json
from runner.rundir.records import read
from runner.stages.model import build, searched
from runner.stages.search import find, search_choice, size_limit
from runner.tracking.of_run import environment


@dataclass
class CompareConf(TrainConf):
    """The config of a run, and how many seeds each search has."""

    seeds: int = number(5, low=1)


def compare(run: Run, seeds: int) -> Path:
    """Run or reuse every search with every seed, write comparison.json, table and fronts; returns the directory.

    Raises:
        ConfigError: if the supernet is not trained or the method has no subnets.
    """
    choice = search_choice(run)
    first, settings, objective = choice.settings["seed"], choice.settings, choice.settings["fitness"]
    found = {n: [_candidates(with_search(run, n, first + i)) for i in range(seeds)] for n in SEARCHES}
    space = searched(build(run)).space
    chance = math.log(run.task.num_classes) if objective == "loss" else 1 / run.task.num_classes
    limit = size_limit(choice, space) or space.params_range[1]
    record = {
        "run": str(run.directory.relative_to(run.output_root)),
        "environment": environment(run),
        "reference": {"params": limit, objective: chance},
        "seeds": [first + i for i in range(seeds)],
        "searches": {name: [_figures(rows, limit, chance, settings) for rows in runs] for name, runs in found.items()},
    }
    named = digest(
        {
            **without_later({**settings, "max_share": choice.max_share}),
            "val_limit": choice.selection_images,
            "seeds": seeds,
        }
    )
    budget = f"g{settings['generations']}-p{settings['population']}-k{seeds}-{named}"
    directory = run.directory / "comparison" / budget
    write_json(directory / "comparison.json", record)
    table = comparison_table(record, f"{run.task.id}, {run.backbone.name}, {run.method.label}")
    to_rich(table)
    write_all([table], directory)
    points = {name: [[(c.params, c.worth(objective)) for c in rows] for rows in runs] for name, runs in found.items()}
    fronts = {name: [[rows[i] for i in pareto_front(rows)] for rows in runs] for name, runs in points.items()}
    attempt(partial(plot_fronts, objective=objective), directory / "fronts.png", fronts)
    return directory


def with_search(run: Run, name: str, seed: int) -> Run:
    """The run with another search at the same budget and limits; settings that only it has are its defaults."""
    choice, kind = search_choice(run), SEARCHES[name]
    known = vars(kind.settings()())
    settings = {k: choice.settings.get(k, v) for k, v in known.items()} | {"seed": seed}
    # What no search finds is no winner to compare.
    winner = choice.winner if choice.searches else "subnet"
    other = replace(choice, name=name, kind=kind, settings=settings, winner=winner)
    return replace(run, search=replace(other, directory=directory_of(run.directory, other)))


def _candidates(run: Run) -> list[Candidate[None]]:
    """Everything one search evaluated, without the subnets themselves."""
    choice = search_choice(run)
    # Random search also runs beside each other search. It depends on seed and budget alone, so its state moves along.
    for other in SEARCHES:
        done = search_choice(with_search(run, other, choice.settings["seed"])).directory
        target = choice.directory / "random.json"
        if (done / "best.json").exists() and not target.exists():
            write_bytes(target, read_bytes(done / "random.json"))
    find(run)
    rows = read(choice.directory / f"{choice.name}.json", State).candidates
    return [Candidate.of(None, row.measured, row.params, index, row.generation) for index, row in enumerate(rows)]


def _figures(rows: list[Candidate[None]], limit: int, chance: float, settings: Mapping[str, Any]) -> dict[str, Any]:
    objective = settings["fitness"]
    best = best_first(rows, objective, settings["ties"])[0]
    floor, top = (-chance, 0.0) if objective == "loss" else (chance, 1.0)
    area = hypervolume([(c.params, c.worth(objective)) for c in rows], (limit, floor))
    return {"evaluated": len(rows), "val_accuracy": best.accuracy, "params": best.params,
            f"val_{objective}": getattr(best, objective),
            "hypervolume": area / (limit * (top - floor))}  # fmt: skip


def comparison_table(record: dict[str, Any], title: str) -> Table:
    """Mean and sample sd over the seeds, one row per search; ordered by hypervolume."""

    def spread(runs: list[dict[str, Any]], key: str, scale: float, digits: int) -> str:
        values = [scale * r[key] for r in runs]
        sd = f" ± {statistics.stdev(values):,.{digits}f}" if len(values) > 1 else ""
        return f"{statistics.fmean(values):,.{digits}f}{sd}"

    rows = [
        [name, spread(runs, "hypervolume", 1, 4), spread(runs, "val_accuracy", 100, 1), spread(runs, "params", 1, 0),
         str(max(r["evaluated"] for r in runs)), str(len(runs))]
        for name, runs in sorted(record["searches"].items(),
                                 key=lambda item: -statistics.fmean(r["hypervolume"] for r in item[1]))
    ]  # fmt: skip
    at = record["reference"]
    what = next(name for name in at if name != "params")
    ideal = 0 if what == "loss" else 1
    header = ["Search", "Hypervolume", "Best val (%)", "Params of the winner", "Evaluated", "Seeds"]
    notes = [
        f"hypervolume: share of the rectangle from the reference ({at['params']:,} parameters, {what} "
        f"{at[what]:.3f}, chance) to (0 parameters, {what} {ideal}) that the validation front dominates",
        "mean ± sample sd over the search seeds, one trained supernet",
    ]
    return Table(f"Searches at equal budget: {title}", header, rows, notes)


if __name__ == "__main__":
    launch(lambda raw, typed: print(f"written: {compare(resolve(raw, typed), raw.seeds)}"), schema=CompareConf)
