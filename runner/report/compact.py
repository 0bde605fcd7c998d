"""What is shown first after an evaluation: one table of at most 80 columns, and a line on what the searches gave."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from data import SUITES, TASKS
from runner.report.result import Record
from runner.report.rows import grouped, row_key, row_names, without_repeats
from runner.report.tables import (
    GROUPS,
    MISSING,
    Table,
    group_means,
    known,
    mean_params,
    mixing_notes,
    percent,
    remarks,
    tasks_by_group,
)
from runner.tracking.progress import spelled

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
MOST_TASKS = 6
"""Tasks that stand beside one another in `WIDTH` columns; of more, the groups' means are shown."""


def thousands(value: float | None) -> str:
    """A count in at most six characters: "856", "82.2k", "1.22M"."""
    if value is None:
        return MISSING
    for factor, suffix in ((1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.2f}{suffix}" if value < 10 * factor else f"{value / factor:.1f}{suffix}"
    return f"{value:.0f}"


def compact_table(records: list[Record]) -> Table:
    """Method, tasks or, of many, groups, average and parameters, for records of one suite, backbone and protocol.

    Means over seeds; how far they spread, the published rows and the other columns are in `build_table`.
    """
    notes: list[str] = []
    first, kept = records[0], without_repeats(records, notes)
    present = {r["dataset"] for r in kept}
    tasks = [t for t in SUITES.get(first["suite"], ()) if t in present]
    tasks += sorted(present - set(tasks))
    groups = tasks_by_group(first["suite"])
    means_only = len(tasks) > MOST_TASKS
    titles = list(GROUPS.values()) if means_only else [TASKS[t].title if t in TASKS else t for t in tasks]
    table = Table(f"{first['suite']}, {first['backbone']}, {first['protocol']}: test accuracy (%)",
                  ["Method", *titles, "Avg", "Params"], [], notes + mixing_notes(kept))  # fmt: skip
    names = row_names(kept)
    for key, part in grouped(kept, row_key).items():
        by_task = grouped(part, lambda r: r["dataset"])
        tests = {t: known(r["test_accuracy"] for r in rs) for t, rs in by_task.items()}
        tested = {t: statistics.fmean(v) for t, v in tests.items() if v}
        *of_groups, average = group_means(tested, groups)
        shown = of_groups if means_only else [tested.get(t) for t in tasks]
        params = thousands(mean_params(by_task, groups))
        name = ", ".join(filter(None, (names[key], remarks(part[0]))))
        table.add([name, *map(percent, shown), percent(average), params], part)
    return table


def searches_line(records: Sequence[Record]) -> str | None:
    """What the searches gave beyond random search with their budget, in one sentence; None without any."""
    gains = []
    for r in records:
        random = (r["comparators"].get("random_search") or {}).get("test")
        own = r["comparators"].get("winner", r["comparators"].get("untuned", {})).get("test", r["test_accuracy"])
        if random is not None and own is not None:
            gains.append(100 * (own - random))
    if not gains:
        return None
    least, most = min(gains), max(gains)
    spread = f" ({least:+.1f} to {most:+.1f})" if len(gains) > 1 else ""
    runs = "1 run" if len(gains) == 1 else f"{len(gains)} runs"
    return f"searched winners are {statistics.fmean(gains):+.1f} points{spread} from random search on test, {runs}"


def print_compact(table: Table, console: Console) -> None:
    """Print a table in at most `WIDTH` columns: titles and names are broken, no line is drawn between columns."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    def shown(text: str) -> Text:
        return Text(spelled(text, console.encoding))

    # "Shapes-Count" and "Digits (UCI)" take two lines of a column that holds "98.1".
    titles = [title.replace("-", " ").replace(" ", "\n") for title in table.header]
    columns = zip(titles, *table.rows, strict=True)
    widths = [max(len(line) for cell in column for line in cell.split("\n")) for column in columns]
    name_width = WIDTH - 1 - sum(width + 1 for width in widths[1:])
    console.print(shown(table.title))
    grid = RichTable(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False)
    for index, title in enumerate(titles):
        grid.add_column(shown(title), justify="right" if index else "left", no_wrap=index > 0,
                        width=widths[index] if index else min(widths[0], name_width))  # fmt: skip
    for row in table.rows:
        grid.add_row(*map(shown, row))
    console.print(grid)
    for note in table.notes:
        console.print(shown(f"Note: {note}"))
