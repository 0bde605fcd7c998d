"""Compare the searches on one trained supernet at equal budget, over several search seeds, by hypervolume.

    python -m runner.compare_searches dataset=digits trainer=mini search=mini [seeds=5]

The words are those of train.py and search.py; `search.seed` is where the seeds start. Each search lies in the folder
that search.py would give it, so finished ones are reused and a killed one resumes. Writes <run>/comparison/<budget>.
"""

from __future__ import annotations

import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

from glora.methods import Searched
from glora.search import SEARCHES, hypervolume, pareto_front
from runner import config as cfg
from runner.build import build, environment
from runner.cli import main, own_number
from runner.folder import digest, read_json, run_folder, search_folder, write_json
from runner.plots import attempt, plot_fronts
from runner.render import to_rich, write_all
from runner.schema import TrainConf
from runner.searching import find
from runner.tables import Table


def compare(c: TrainConf, seeds: int) -> Path:
    """Run or reuse every search with every seed, write comparison.json, the table and the fronts; returns the folder.

    Raises:
        ConfigError: if the supernet is not trained or the method has no subnets.
    """
    run = run_folder(c)
    found = {name: [_candidates(c, name, c.search.seed + i) for i in range(seeds)] for name in SEARCHES}
    method = build(c)
    assert isinstance(method, Searched)  # `find` refuses methods without subnets
    limit = cfg.search_limit(c)
    reference = method.space.params_range[1] if limit is None else limit, 1 / cfg.task(c).num_classes
    record = {
        "run": str(run.relative_to(cfg.output_root(c))),
        "environment": environment(c),
        "reference": {"params": reference[0], "accuracy": reference[1]},
        "seeds": [c.search.seed + i for i in range(seeds)],
        "searches": {name: [_figures(rows, reference) for rows in runs] for name, runs in found.items()},
    }
    s = c.search
    settings = {**vars(s), "name": None, "max_params": cfg.search_limit(c), "seeds": seeds}
    folder = run / "comparison" / f"g{s.generations}-p{s.population}-k{seeds}-{digest(settings)}"
    write_json(folder / "comparison.json", record)
    table = comparison_table(record, f"{cfg.task(c).id}, {c.backbone.name}, {cfg.label(c)}")
    to_rich(table)
    write_all([table], folder)
    fronts = {name: [[rows[i] for i in pareto_front(rows)] for rows in runs] for name, runs in found.items()}
    attempt(plot_fronts, folder / "fronts.png", fronts)
    return folder


def _candidates(c: TrainConf, name: str, seed: int) -> list[tuple[int, float]]:
    """(parameters, validation accuracy) of everything one search evaluated."""
    run = run_folder(c)
    c = replace(c, search=replace(c.search, name=name, seed=seed))
    folder = search_folder(c, run)
    # Random search also runs beside each other search. It depends on seed and budget alone, so its state moves along.
    for other in SEARCHES:
        done = search_folder(replace(c, search=replace(c.search, name=other)), run)
        if (done / "best.json").exists() and not (folder / "random.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(done / "random.json", folder / "random.json.part")
            (folder / "random.json.part").replace(folder / "random.json")
    find(c)
    return [(row["params"], row["accuracy"]) for row in read_json(folder / f"{name}.json")["candidates"]]


def _figures(rows: list[tuple[int, float]], reference: tuple[float, float]) -> dict[str, Any]:
    params, accuracy = min(rows, key=lambda p: (-p[1], p[0]))
    whole = reference[0] * (1 - reference[1])
    return {"evaluated": len(rows), "val_accuracy": accuracy, "params": params,
            "hypervolume": hypervolume(rows, reference) / whole}  # fmt: skip


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
    header = ["Search", "Hypervolume", "Best val (%)", "Params of the winner", "Evaluated", "Seeds"]
    notes = [
        f"hypervolume: share of the rectangle from the reference ({at['params']:,} parameters, accuracy "
        f"{at['accuracy']:.3f}, chance) to (0 parameters, accuracy 1) that the validation front dominates",
        "mean ± sample sd over the search seeds, one trained supernet",
    ]
    return Table(f"Searches at equal budget: {title}", header, rows, notes)


if __name__ == "__main__":
    count = own_number("seeds", 5)
    main(lambda c: print(f"written: {compare(c, count)}"))
