"""How far two rows of a table are apart, in points: differences of pairs, with an interval over resampled tasks.

Seeds of one task share its images, and tasks are few: tasks are what is resampled, and a task weighs the same however
many seeds it has.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from runner.config.run import SELECTED_BY
from runner.report.published import PublishedRow, PublishedTable
from runner.report.result import Record
from runner.report.rows import Row

REFERENCE = "lora"
"""The method that rows are compared with where a table has it: named beforehand, not by what it reaches on test."""
SEED = 0
"""Of the bootstrap."""

Comparison = Callable[[list[Record]], str | None]
"""The cell of a row from its records; None where there is nothing to compare."""


def interval(gains: Sequence[float]) -> str | None:
    """Gains of tasks, in points, as "+1.2 (-0.3 to +2.5)": their mean and its 95 % percentile bootstrap interval.

    The mean alone where all gains are the same or there is one; None without any.
    """
    if not gains:
        return None
    mean = f"{statistics.fmean(gains):+.1f}"
    if max(gains) - min(gains) < 1e-9:  # but for rounding
        return mean
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap((gains,), np.mean, method="percentile", rng=SEED).confidence_interval
    return f"{mean} ({found.low:+.1f} to {found.high:+.1f})"


def difference(ours: Iterable[Record], theirs: Iterable[Record]) -> str | None:
    """Points by which the first is better on test: mean over the tasks both have, and interval.

    Pairs are of one task and seed; None without any.
    """
    tests = {(r["dataset"], r["seed"]): r["test_accuracy"] for r in theirs if r["test_accuracy"] is not None}
    pairs: dict[str, list[float]] = {}
    for r in ours:
        other = tests.get((r["dataset"], r["seed"]))
        if other is not None and r["test_accuracy"] is not None:
            pairs.setdefault(r["dataset"], []).append(100 * (r["test_accuracy"] - other))
    return interval([statistics.fmean(values) for values in pairs.values()])


def comparisons(
    rows: Mapping[Row, list[Record]],
    names: Mapping[Row, str],
    paper: PublishedTable | None,
    average: Callable[[list[Record]], float | None],
) -> dict[str, Comparison]:
    """The columns that compare the rows of a table, by their titles; none for a single row without a published one.

    Args:
        rows: records by row.
        names: of the rows.
        paper: the published table whose rows are comparable with these, if any.
        average: of a row, a fraction, as the published tables average.
    """
    found: dict[str, Comparison] = {}
    if len(rows) > 1:
        plain = [key for key, part in rows.items() if part[0]["method"] == REFERENCE and not part[0].get("form")]
        # The method's own rate before one that was typed.
        key = min(plain, key=lambda key: key.rate is not None) if plain else next(iter(rows))
        reference = rows[key]
        found[f"vs {names[key]}"] = lambda part: None if part is reference else difference(part, reference)
    if paper is not None and any(_printed(paper, part) for part in rows.values()):
        found["vs published"] = lambda part: from_published(part, _printed(paper, part), average)
    return found


def _printed(paper: PublishedTable, part: Sequence[Record]) -> PublishedRow | None:
    """The row of the same method, whatever its search went by; None for another form that the paper does not have."""
    return paper.of(part[0]["label"]) if part[0].get("form", "") in ("", *SELECTED_BY.values()) else None


def from_published(
    ours: list[Record], row: PublishedRow | None, average: Callable[[list[Record]], float | None]
) -> str | None:
    """Points by which the means over seeds exceed the printed values, over the tasks both have, and interval.

    Of a row whose tasks are not printed, the difference of the averages alone.
    """
    if row is None:
        return None
    if not row.tasks:
        mean = average(ours)
        return None if mean is None else f"{100 * mean - row.average:+.1f}"
    found: dict[str, list[float]] = {}
    for r in ours:
        if r["test_accuracy"] is not None and r["dataset"] in row.tasks:
            found.setdefault(r["dataset"], []).append(100 * r["test_accuracy"])
    return interval([statistics.fmean(values) - row.tasks[task] for task, values in found.items()])
