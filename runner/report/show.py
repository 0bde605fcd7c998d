"""From result files to what a person looks at: tables in the terminal and on disk, plots per run."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from glora import SearchSpace, Soup
from glora.search import Member, Space, State
from runner.config.errors import ConfigError
from runner.config.run import UNSEARCHED
from runner.report.compact import compact_table, print_compact, searches_line
from runner.report.cost_table import cost_table
from runner.report.figure import attempt, is_drawn
from runner.report.plots import plot_options, plot_params_by_type, plot_search, plot_training
from runner.report.plots_classes import plot_classes, plot_confusion
from runner.report.plots_few_shot import plot_few_shot
from runner.report.plots_soup import plot_gates
from runner.report.predictions import confusion
from runner.report.render import to_rich, write_all
from runner.report.result import collect
from runner.report.rows import grouped
from runner.report.search_table import search_table
from runner.report.tables import Table, build_tables, table_key
from runner.report.transfer_tables import SUITE_TABLES, few_shot_curves, suite_tables
from runner.rundir.records import Summary, read, read_best, read_subnet, read_winner


def tables(records: list[dict[str, Any]]) -> list[Table]:
    """Accuracy tables, the search table if anything was searched, and the cost table."""
    found = build_tables([r for r in records if r["suite"] not in SUITE_TABLES])
    for suite in SUITE_TABLES:
        found += suite_tables([r for r in records if r["suite"] == suite])
    searched = search_table([r for r in records if r["comparators"]])
    costs = [cost_table(records)] if records else []
    return found + ([searched] if searched.rows else []) + costs


def show(records: list[dict[str, Any]], folder: Path, details: bool = False) -> list[Path]:
    """Write all tables to `folder` as Markdown, CSV and LaTeX and print the short ones, or with `details` all of them.

    Returns the files, plots last.
    """
    made = tables(records)
    console = Console()
    if details:
        for table in made:
            to_rich(table, console)
    else:
        plain = [r for r in records if r["suite"] not in SUITE_TABLES]
        for part in grouped(plain, table_key).values():
            print_compact(compact_table(part), console)
        for suite in SUITE_TABLES:  # their tables have another shape
            for table in suite_tables([r for r in records if r["suite"] == suite]):
                to_rich(table, console)
        line = searches_line(records)
        if line:
            console.print(line, highlight=False, soft_wrap=True)
    curves = few_shot_curves([r for r in records if r["suite"] == "few_shot"])
    return write_all(made, folder) + (attempt(plot_few_shot, folder / "few_shot.png", curves) if curves else [])


def show_results(places: Iterable[tuple[str, bool]]) -> None:
    """Print and write the tables of every result under some roots, each once.

    Args:
        places: roots, and whether all tables are shown.

    Raises:
        ConfigError: if nothing is finished, or results cannot be read; the tables are without those then.
    """
    unread = []
    for root, details in {root: details for root, details in places}.items():
        records, problems = collect(Path(root))
        unread += problems
        if not records and not problems:
            raise ConfigError(
                f"no finished result under {root}; run train.py first, or point output_root at your results"
            )
        written = show(records, Path(root) / "tables", details)
        print(f"written: {', '.join(map(str, written))}")
        if not details:
            print("seeds, cost and searches: the same command with details=true; a page of it all: python report.py")
    if unread:
        raise ConfigError("\n".join([*unread, "the tables are without these results"]))


def draw_training(run: Path, redraw: bool = True) -> list[Path]:
    """Training curves of every phase of a run, into <run>/plots; without `redraw` those that are missing."""
    drawn: list[Path] = []
    for path in sorted(run.glob("train_*.json")):
        plot = run / "plots" / f"{path.stem}.png"
        if redraw or not is_drawn(plot):
            drawn += attempt(_plot_summary, plot, path)
    return drawn


def _plot_summary(summary: Path, path: Path) -> Path:
    return plot_training(read(summary, Summary).rows, path)


def draw_classes(predictions: Path, redraw: bool = True) -> list[Path]:
    """What a run confuses on test, from its stored predictions if it has any; without `redraw` what is missing.

    Raises:
        ConfigError: naming the predictions, if they are damaged.
    """
    plots = predictions.parent / "plots"
    wanted = {"confusion": plot_confusion, "classes": plot_classes}
    wanted = {n: plot for n, plot in wanted.items() if redraw or not is_drawn(plots / f"{n}.png")}
    if not wanted or not predictions.exists():  # results of earlier versions have none
        return []
    counts = confusion(predictions)
    return [path for name, plot in wanted.items() for path in attempt(plot, plots / f"{name}.png", counts)]


def search_pictures(winner: str) -> tuple[str, ...]:
    """What is drawn of a search: its candidates where there are any, the choices of a subnet, the gates of a soup."""
    searched = ("candidates", "options") if winner not in UNSEARCHED else ()
    own = {"subnet": (), "largest": ("options",)}.get(winner, ("gates",))
    return (*searched, *own, "params_by_type")


def search_drawn(folder: Path) -> bool:
    """Whether all pictures of a finished search are there."""
    return all(is_drawn(folder / "plots" / f"{name}.png") for name in search_pictures(read_best(folder).winner))


GATES = "plots/gates.png"
"""Where the gates of a soup are drawn, in the folder of its search or tuning."""


def draw_gates(folder: Path, space: Space[Member], choice: Member) -> list[Path]:
    """The gates of a soup; nothing of a subnet."""
    if isinstance(choice, Soup) and isinstance(space, SearchSpace):
        return attempt(plot_gates, folder / GATES, space.gates(choice))
    return []


def draw_search(folder: Path, space: Space[Member]) -> list[Path]:
    """The candidates of a finished search, the best one's options, and gates and sizes of what is handed over."""
    best, handed = read_best(folder), read_winner(space, folder)
    wanted, plots, drawn = search_pictures(best.winner), folder / "plots", []
    shown = handed
    if "candidates" in wanted:
        shown = read_subnet(space, folder, best.search)
        candidates = read(folder / f"{best.search}.json", State).candidates
        winner = next((i for i, row in enumerate(candidates) if space.decode(row.subnet) == shown), -1)
        rows = [{**vars(row), **row.measured._asdict()} for row in candidates]
        picture = partial(plot_search, title=f"{best.search} search, {len(rows)} candidates", objective=best.fitness)
        drawn += attempt(picture, plots / "candidates.png", rows, winner)
    if "options" in wanted:
        choices = space.choices(shown)
        drawn += attempt(plot_options, plots / "options.png", list(choices), list(choices.values()))
    drawn += draw_gates(folder, space, handed)
    sizes = space.sizes(handed)
    return drawn + attempt(plot_params_by_type, plots / "params_by_type.png", list(sizes), list(sizes.values()))
