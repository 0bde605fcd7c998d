"""The searched subnets beside what they must beat, one row per method, task and protocol."""

from __future__ import annotations

import math
import statistics

from glora.methods import METHODS
from runner.report.result import RANDOM, Record
from runner.report.rows import grouped, row_key, row_names, without_repeats
from runner.report.tables import (
    MISSING,
    Table,
    count,
    known,
    mean_of,
    mean_sd,
    mixing_notes,
    percent,
    remarks,
    selection_noise,
    span,
)


def _task(record: Record) -> str:
    return str(record["dataset"]) + (f", {record['shots']}-shot" if record.get("shots") else "")


WINNERS_COMPARED = {"untuned": "the winner with the supernet's weights has",
                    "scratch": "the same subnet trained from its initialization has"}  # fmt: skip
"""Comparators of a winner that was trained on."""


def _untuned(record: Record) -> float | None:
    """Test accuracy of what was selected: with the supernet's weights."""
    test: float | None = record.get("comparators", {}).get("untuned", {}).get("test", record["test_accuracy"])
    return test


def _compared(part: list[Record], name: str, key: str) -> list[float]:
    return known((r.get("comparators", {}).get(name) or {}).get(key) for r in part)


def _is_supernet(record: Record) -> bool:
    method = METHODS.get(record["method"])
    return bool(method is not None and method.group == "searched" and record.get("ranks"))


def search_table(records: list[Record]) -> Table:
    """The searched subnet of every searched run beside what it must beat, one row per method, task and protocol.

    Gap is validation minus test in percentage points: how far selection overstates; of a tuned winner with the
    supernet's weights, as it was selected. Random is the mean of the random subnets, the sd among them and their
    number (over seeds: mean of the means, root mean square of the sds).
    """
    notes: list[str] = []
    searched = without_repeats([r for r in records if r.get("comparators") or _is_supernet(r)], notes)
    header = ["Method", "Dataset", "Backbone", "Winner val", "Winner test", "Gap", "Selection noise", "Largest test",
              "Random test", "Random search val", "Random search test", "Params winner", "Params largest",
              "Params random search", "Seeds", "Protocol", "Remarks"]  # fmt: skip
    table = Table("Search: winner against the largest, random and randomly searched subnets (accuracy in %)", header,
                  [], notes)  # fmt: skip
    names = row_names(searched)
    for part in grouped(searched, lambda r: (row_key(r), _task(r), r["backbone"], r["protocol"])).values():
        first = part[0]
        pairs = [(r["val_accuracy"], r["test_accuracy"]) for r in part]
        selected = [(r["val_accuracy"], _untuned(r)) for r in part]
        gaps = [val - test for val, test in selected if val is not None and test is not None]
        random = [r["comparators"][RANDOM] for r in part if r.get("comparators", {}).get(RANDOM)]
        random_cell = MISSING
        if random:
            spread = math.sqrt(statistics.fmean(entry["test_sd"] ** 2 for entry in random))
            mean = percent(statistics.fmean(entry["test_mean"] for entry in random))
            random_cell = f"{mean} ± {percent(spread)} ({span(entry['subnets'] for entry in random)})"
        table.add([
            names[row_key(first)],
            _task(first), first["backbone"], mean_sd(known(val for val, _ in pairs)),
            mean_sd(known(test for _, test in pairs)), mean_sd(gaps), selection_noise(part),
            mean_sd(_compared(part, "largest", "test")),
            random_cell, mean_sd(_compared(part, "random_search", "val")),
            mean_sd(_compared(part, "random_search", "test")), count(mean_of(known(r["params"] for r in part))),
            count(mean_of(_compared(part, "largest", "params"))),
            count(mean_of(_compared(part, "random_search", "params"))), str(len(part)), first["protocol"],
            remarks(first),
        ], part)  # fmt: skip
        few = _compared(part, "winner", "test")
        if few:
            images = span(r["comparators"]["images"] for r in part if r["comparators"].get("winner"))
            notes.append(f"{names[row_key(first)]}, {_task(first)}: largest, random and randomly searched subnets on "
                         f"{images} class-balanced test images, where the winner has {mean_sd(few)}")  # fmt: skip
        for comparator, what in WINNERS_COMPARED.items():
            found = _compared(part, comparator, "test")
            if found:
                notes.append(f"{names[row_key(first)]}, {_task(first)}: {what} {mean_sd(found)} on test")
    notes.append(
        "Gap: validation minus test, in points, of a tuned winner as it was selected, before tuning; ± is the sample "
        "sd over seeds, except in Random test, where it is the sd among the random subnets, whose number is in "
        "parentheses; random search has the budget of the search; Selection noise: standard error of the best "
        "candidate's accuracy on the images that selected, in points, and how many other candidates lie within it"
    )
    notes += mixing_notes(searched)
    return table
