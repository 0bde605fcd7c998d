"""What the runs of each method cost, as in the paper's Appendix C: wall time of training, search and selection, peak
memory, and the knobs that a task needs turned; by method, backbone, protocol and machine.
"""

from __future__ import annotations

import statistics
from typing import Any

from runner.config.knobs import knobs_of
from runner.report.result import Record
from runner.report.rows import grouped, row_key, row_names, without_repeats
from runner.report.tables import MISSING, Table, known


def _mean_max(values: list[float]) -> str:
    """Mean, and the largest where it is another: "350 (max 410)"."""
    if not values:
        return MISSING
    mean, most = f"{statistics.fmean(values):,.0f}", f"{max(values):,.0f}"
    return mean if mean == most else f"{mean} (max {most})"


def _machine(record: Record) -> str:
    found = record.get("environment") or {}
    threads = found.get("threads")
    return str(found.get("device", MISSING)) + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


def _selection_seconds(record: Record) -> float | None:
    """Of the grid's trainings that were not chosen, as far as they were timed; None without a grid."""
    grid = record.get("grid")
    if not grid:
        return None
    return sum(p.get("seconds") or 0.0 for p in grid["points"] if p["point"] != grid["chosen"])


def _chosen(record: Record) -> str:
    """What was chosen for the task of a run, and out of how much: "lr, scale of 6 points", "subnet"."""
    found, grid = [], record.get("grid")
    if grid:
        found.append(f"{', '.join(grid['chosen'])} of {len(grid['points'])} points")
    elif record["hparams"] == "published":
        found.append(f"{', '.join(knobs_of(record['method']).published) or 'its values'} as published")
    return " + ".join(found + ["subnet"] * ("random_search" in record["comparators"])) or "nothing"


def _offered(record: Record) -> str:
    """The axes of the method's own grid with their numbers of values: "lr 10, weight_decay 4"."""
    return ", ".join(f"{axis} {values}" for axis, values in knobs_of(record["method"]).grid.items()) or MISSING


def cost_table(records: list[Record]) -> Table:
    """Seconds, peak memory and knobs of a run, one row per method, suite, backbone, protocol and machine.

    Records are those of `result.json`; what a record does not hold is left out of its mean.
    """
    notes: list[str] = []
    kept = without_repeats(records, notes)
    header = ["Method", "Suite", "Backbone", "Training (s)", "Search (s)", "Tuning (s)", "Selection (s)",
              "Peak memory (MB)", "Chosen per task", "Knobs", "Runs", "Machine", "Protocol"]  # fmt: skip
    table = Table("Cost of a run: wall time and peak memory, mean over runs", header, [], notes)
    names = row_names(kept)

    def key(r: Record) -> tuple[Any, ...]:
        return row_key(r), r["suite"], r["backbone"], r["protocol"], _machine(r)

    for part in grouped(kept, key).values():
        first = part[0]
        table.add([
            names[row_key(first)], first["suite"], first["backbone"],
            _mean_max(known(r.get("training_seconds") for r in part)),
            _mean_max(known(r.get("search_seconds") for r in part)),
            _mean_max(known(r.get("tuning_seconds") for r in part)),
            _mean_max(known(map(_selection_seconds, part))), _mean_max(known(r.get("peak_memory_mb") for r in part)),
            _chosen(first), _offered(first), str(len(part)), _machine(first), first["protocol"],
        ], part)  # fmt: skip
    for name, of in grouped(kept, lambda r: names[row_key(r)]).items():
        seconds = known((r["comparators"].get("scratch") or {}).get("seconds") for r in of)
        if seconds:
            notes.append(
                f"{name}: its comparator, trained from the initialization, took {_mean_max(seconds)} s besides"
            )
    notes.append(
        "training: the epochs behind the measured weights, without validation; search: without the random "
        "search beside it; tuning: of the search's winner; selection: trainings of the grid that were not chosen; "
        "memory: of the allocator on a GPU, of the whole process on a CPU"
    )
    notes.append(
        "chosen per task: of these runs, on the images that select; knobs: what the method's own grid varies per task "
        "(hparams=val_grid), with the numbers of values"
    )
    return table
