"""Result records to tables in the paper's layout, printed or written as Markdown, CSV and LaTeX.

    write_all([*build_tables(records), search_table(records)], folder)

A record is the dict of a `result.json`. Accuracies are fractions there and percent here; sd is the sample sd over
seeds. A missing value is "-", never 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from data import SUITES, TASKS
from glora.methods import METHODS
from runner.config.protocol import FOUNDING
from runner.report.differences import comparisons
from runner.report.published import PAPER_TABLES, VTAB_ORDER, PublishedTable
from runner.report.result import Record, completed
from runner.report.rows import grouped, row_key, row_names, without_repeats

MISSING = "-"
GROUPS: dict[str, str] = {"natural": "Nat", "specialized": "Spec", "structured": "Struct"}

COLUMNS: dict[str, Callable[[list[Record]], str]] = {
    "Seeds": lambda row: span(
        filter(None, (len(known(r["test_accuracy"] for r in t)) for t in _by_task(row).values()))
    ),
    "Train images": lambda row: span(r["training_images"] for r in row),
    "Protocol": lambda row: str(row[0]["protocol"]),
    "Remarks": lambda row: remarks(row[0]),
}
"""The last columns of an accuracy table: title, and the cell of a row from its records. "Remarks" is shown last."""


@dataclass
class Table:
    """A table of finished text: every row is as long as `header`; `notes` are sentences that go below it.

    `sources` says which records stand behind a cell, by row and column, or behind a whole row where the column is None.
    """

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    sources: dict[tuple[int, int | None], list[Record]] = field(default_factory=dict)

    def add(self, cells: list[str], records: list[Record]) -> None:
        """A row and the records behind it."""
        self.sources[len(self.rows), None] = records
        self.rows.append(cells)


def percent(value: float | None) -> str:
    return MISSING if value is None else f"{100 * value:.1f}"


def mean_sd(values: Sequence[float]) -> str:
    """Fractions over seeds as "84.0" or, from two values on, "84.0 ± 1.2" with the sample sd."""
    if not values:
        return MISSING
    mean = percent(statistics.fmean(values))
    return f"{mean} ± {percent(statistics.stdev(values))}" if len(values) > 1 else mean


def mean_of(values: Iterable[float]) -> float | None:
    found = list(values)
    return statistics.fmean(found) if found else None


def count(value: float | None) -> str:
    return MISSING if value is None else f"{round(value):,}"


def selection_noise(records: Iterable[Record]) -> str:
    """Standard error of what was selected, in points, and how many other candidates lie within it; means of both."""
    found = [r["selection_noise"] for r in records if r.get("selection_noise")]
    if not found:
        return MISSING
    error, within = (statistics.fmean(noise[key] for noise in found) for key in ("standard_error", "within"))
    return f"{percent(error)} ({within:.0f} within)"


def span(counts: Iterable[int]) -> str:
    """ "3" when all counts agree, else "1-3"."""
    seen = sorted(set(counts))
    return MISSING if not seen else f"{seen[0]:,}" if len(seen) == 1 else f"{seen[0]:,}-{seen[-1]:,}"


def known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def tasks_by_group(suite: str) -> dict[str, tuple[str, ...]]:
    """All tasks of each group of a suite, none for an unknown one."""
    return {g: tuple(task for task in SUITES.get(suite, ()) if TASKS[task].group == g) for g in GROUPS}


def _layout(suite: str, records: list[Record]) -> tuple[list[tuple[str, str]], dict[str, tuple[str, ...]]]:
    """(task id, title) of the tasks that occur, in canonical order with unknown ones last; all tasks of each group."""
    present = {record["dataset"] for record in records}
    listed = [task for task in SUITES.get(suite, ()) if task in present]
    columns = [(task, TASKS[task].title) for task in listed] + [(task, task) for task in sorted(present - set(listed))]
    return columns, tasks_by_group(suite)


def group_means(values: dict[str, float], groups: dict[str, tuple[str, ...]]) -> list[float | None]:
    """Nat, Spec, Struct and their mean. A group counts only when each of its tasks has a value."""
    means = [
        statistics.fmean(values[task] for task in tasks) if tasks and all(task in values for task in tasks) else None
        for tasks in groups.values()
    ]
    complete = known(means)
    return [*means, statistics.fmean(complete) if len(complete) == len(means) else None]


def mean_params(by_task: dict[str, list[Record]], groups: dict[str, tuple[str, ...]]) -> float | None:
    """Parameters averaged like the accuracies, so that a suite with eight structured tasks does not weigh those most.

    Where a group is not complete, over the tasks that there are.
    """
    found = {task: known(r["params"] for r in rs) for task, rs in by_task.items()}
    means = {task: statistics.fmean(values) for task, values in found.items() if values}
    average = group_means(means, groups)[-1]
    return mean_of(means.values()) if average is None else average


def mixing_notes(records: list[Record]) -> list[str]:
    """Sentences on inputs that differ: a warning within one task, plain information when tasks differ by nature."""
    notes = []
    records = [{"resize": "bicubic", **record} for record in records]  # results from before it was recorded
    for name, plural in (("source", "image sources"), ("codec", "codecs"), ("resize", "resizes"),
                         ("normalization", "normalizations")):  # fmt: skip
        if len({str(record[name]) for record in records}) < 2:
            continue
        by_task = {t: sorted({str(r[name]) for r in rs}) for t, rs in grouped(records, lambda r: r["dataset"]).items()}
        listing = "; ".join(f"{task}: {', '.join(values)}" for task, values in by_task.items())
        within = any(len(values) > 1 for values in by_task.values())
        kind = "MIXED within a task, rows are not comparable there" if within else "mixed across tasks"
        notes.append(f"{plural} {kind} ({listing})")
    return notes


def remarks(record: Record) -> str:
    """What a reader must know about how the row was chosen and, where no publication says it, defined."""
    record = completed(record)
    notes = [record["mark"]] if record["mark"] else []
    chosen = {"published": ["published hyper-parameters"], "val_grid": ["hyper-parameters chosen on val200"]}
    method = METHODS.get(record["method"])
    if method is not None and method.ours_on_swin and record["family"] == "swin_b":
        notes.append("on a Swin defined by this project")
    return ", ".join(notes + chosen.get(record["hparams"], []))


def last_columns() -> list[str]:
    """The titles of `COLUMNS`, the remarks last."""
    return [*(title for title in COLUMNS if title != "Remarks"), "Remarks"]


def _by_task(records: list[Record]) -> dict[str, list[Record]]:
    return grouped(records, lambda r: r["dataset"])


def _tested(records: list[Record]) -> dict[str, float]:
    """The mean over seeds of each task that has one."""
    tests = {task: known(r["test_accuracy"] for r in rs) for task, rs in _by_task(records).items()}
    return {task: statistics.fmean(values) for task, values in tests.items() if values}


def table_key(record: Record) -> tuple[str, str, str]:
    """What the records of one table share: suite, backbone and protocol."""
    return record["suite"], record["backbone"], record["protocol"]


def build_tables(records: list[Record]) -> list[Table]:
    """One result table per (suite, backbone, protocol), in order of first appearance."""
    return [build_table(part) for part in grouped(records, table_key).values()]


def build_table(records: list[Record]) -> Table:
    """The result table of records of one suite, backbone and protocol, published rows first where the paper has any.

    Raises:
        ValueError: if there are no records or they differ in suite, backbone or protocol (see `build_tables`).
    """
    keys = {table_key(record) for record in records}
    if len(keys) != 1:
        raise ValueError(f"a table needs records of one (suite, backbone, protocol), not {sorted(keys)}")
    suite, backbone, protocol = keys.pop()
    notes: list[str] = []
    records = without_repeats(records, notes)
    columns, groups = _layout(suite, records)
    names, rows, first = row_names(records), grouped(records, row_key), completed(records[0])
    paper = PAPER_TABLES.get(first["family"] or "") if suite == "vtab" else None
    versus = comparisons(
        rows, names, paper if first["comparable"] else None, lambda part: group_means(_tested(part), groups)[-1]
    )
    table = Table(
        f"{suite}, {backbone}, protocol {protocol}: top-1 test accuracy (%)",
        ["Method", *(title for _, title in columns), *GROUPS.values(), "Average", *versus, "Params", *last_columns()],
        [],
        notes,
    )  # fmt: skip
    if paper is not None:
        _add_published(table, columns, paper, first["comparable"], len(versus))
    elif suite == "vtab":
        notes.append(f"the paper has no VTAB-1K table for backbone {backbone}")
    for key, part in rows.items():
        by_task, tested = _by_task(part), _tested(part)
        tests = {task: known(r["test_accuracy"] for r in rs) for task, rs in by_task.items()}
        for index, (task, _) in enumerate(columns, 1):
            table.sources[len(table.rows), index] = by_task.get(task, [])
        table.add([
            names[key], *(mean_sd(tests.get(task, [])) for task, _ in columns),
            *(percent(mean) for mean in group_means(tested, groups)),
            *(compared(part) or MISSING for compared in versus.values()), count(mean_params(by_task, groups)),
            *(COLUMNS[title](part) for title in last_columns()),
        ], part)  # fmt: skip
    notes += mixing_notes(records)
    if versus:
        notes.append(
            "vs: points, mean over tasks (not over groups) of paired differences, of the same task and seed, or of the "
            "mean over seeds to the published value; 95 % percentile bootstrap interval over resampled tasks"
        )
    if any(" ± " in cell for row in table.rows for cell in row):
        notes.append("mean ± sample sd over the seeds; group means and Average are of the means over seeds")
    return table


def _add_published(
    table: Table, columns: list[tuple[str, str]], paper: PublishedTable, comparable: bool, compared: int
) -> None:
    """The paper's rows and what is to be known of them; `compared` columns compare rows of ours alone."""
    remark = "published" if comparable else "published, not directly comparable"
    for row in paper.rows:
        means = (row.natural, row.specialized, row.structured, row.average)
        cells = [f"{row.tasks[task]:.1f}" if task in row.tasks else MISSING for task, _ in columns]
        params = MISSING if row.params_m is None else f"{row.params_m}M"
        table.rows.append([row.method, *cells, *(f"{mean:.1f}" for mean in means), *[MISSING] * compared, params,
                           *[MISSING] * (len(COLUMNS) - 1), remark])  # fmt: skip
    origin = "" if paper.group_means_printed else "; its group means are computed from the printed task columns"
    table.notes.append(f"published: {paper.source} ({paper.backbone}){origin}")
    if not comparable:
        others = " or ".join(p.name for p in FOUNDING.values() if p.comparable)
        table.notes.append(f"published rows are not directly comparable with this protocol, only with {others}")
    if len(columns) < len(VTAB_ORDER):
        table.notes.append("group means and Average of published rows cover all 19 tasks, shown here or not")
