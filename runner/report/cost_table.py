"""What the runs of each method cost: wall time and peak memory, by method, backbone, protocol and machine."""

from __future__ import annotations

import statistics
from typing import Any

from runner.report.result import Record
from runner.report.tables import MISSING, Table, grouped, known, row_key, row_names, without_repeats


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


def cost_table(records: list[Record]) -> Table:
    """Seconds and peak memory of a run, one row per method, suite, backbone, protocol and machine.

    Records are those of `result.json`; what a record does not hold is left out of its mean.
    """
    notes: list[str] = []
    kept = without_repeats(records, notes)
    header = ["Method", "Suite", "Backbone", "Training (s)", "Search (s)", "Tuning (s)", "Peak memory (MB)",
              "Runs", "Machine", "Protocol"]  # fmt: skip
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
            _mean_max(known(r.get("peak_memory_mb") for r in part)), str(len(part)), _machine(first),
            first["protocol"],
        ], part)  # fmt: skip
    notes.append(
        "training: the epochs behind the measured weights, without validation; search: without the random "
        "search beside it; tuning: of the search's winner; memory: of the allocator on a GPU, of the whole process "
        "on a CPU"
    )
    return table
