"""From result files to what a person looks at: tables in the terminal and on disk, plots per run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from glora import SearchSpace, Soup
from glora.search import Member, Space
from runner.report.cost_table import cost_table
from runner.report.plots import attempt, plot_options, plot_params_by_type, plot_search, plot_training
from runner.report.plots_few_shot import plot_few_shot
from runner.report.plots_soup import plot_gates
from runner.report.render import to_rich, write_all
from runner.report.search_table import search_table
from runner.report.tables import Table, build_tables
from runner.report.transfer_tables import SUITE_TABLES, few_shot_curves, suite_tables
from runner.rundir.files import read_json, read_subnet, read_winner


def tables(records: list[dict[str, Any]]) -> list[Table]:
    """Accuracy tables, the search table if anything was searched, and the cost table."""
    found = build_tables([r for r in records if r["suite"] not in SUITE_TABLES])
    for suite in SUITE_TABLES:
        found += suite_tables([r for r in records if r["suite"] == suite])
    searched = search_table([r for r in records if r["comparators"]])
    costs = [cost_table(records)] if records else []
    return found + ([searched] if searched.rows else []) + costs


def show(records: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Print all tables and write them to `folder` as Markdown, CSV and LaTeX; returns the files, plots last."""
    made = tables(records)
    for table in made:
        to_rich(table)
    curves = few_shot_curves([r for r in records if r["suite"] == "few_shot"])
    return write_all(made, folder) + (attempt(plot_few_shot, folder / "few_shot.png", curves) if curves else [])


def draw_training(run: Path) -> list[Path]:
    """Training curves of every phase of a run, into <run>/plots."""
    drawn: list[Path] = []
    for path in sorted(run.glob("train_*.json")):
        drawn += attempt(plot_training, run / "plots" / f"{path.stem}.png", read_json(path)["rows"])
    return drawn


def draw_search(folder: Path, space: Space[Member], name: str, objective: str = "accuracy") -> list[Path]:
    """The candidates of a search by this objective, the best one's options and sizes, and a soup's gates."""
    rows = read_json(folder / f"{name}.json")["candidates"]
    best = read_subnet(space, folder, name)
    winner = next(i for i, row in enumerate(rows) if space.decode(row) == best)
    choices, sizes = space.choices(best), space.sizes(best)
    plots, handed = folder / "plots", read_winner(space, folder)
    gates = space.gates(handed) if isinstance(handed, Soup) and isinstance(space, SearchSpace) else None
    candidates = partial(plot_search, title=f"{name} search, {len(rows)} candidates", objective=objective)
    return [
        *attempt(candidates, plots / "candidates.png", rows, winner),
        *attempt(plot_options, plots / "options.png", list(choices), list(choices.values())),
        *attempt(plot_params_by_type, plots / "params_by_type.png", list(sizes), list(sizes.values())),
        *([] if gates is None else attempt(plot_gates, plots / "gates.png", gates)),
    ]
