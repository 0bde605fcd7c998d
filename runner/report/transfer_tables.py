"""Tables beyond VTAB-1K in the paper's shapes: few-shot (Figure 2) and domain generalisation (Table 2)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence

from runner.report.published_transfer import DOMAIN, DOMAIN_SOURCE, FEW_SHOT, FEW_SHOT_SETS, FEW_SHOT_SOURCE, TARGETS
from runner.report.result import Record, completed
from runner.report.rows import grouped, rates_apart, row_key, row_names, without_repeats
from runner.report.tables import MISSING, Table, count, known, mean_sd, mixing_notes, percent, remarks, span

PUBLISHED = "published, not directly comparable"
"""Neither the learning rate nor the images that selected are published for these suites."""

Points = dict[int, list[float]]
"""Accuracies over list and training seeds by the number of shots."""


def _published(record: Record) -> bool:
    """Whether the published rows, which are of one backbone family, belong beside this record's."""
    return bool(completed(record)["family"] == "vit_b16")


def _few_shot_table(records: list[Record]) -> Table:
    """A row per method and number of shots, a column per set, their average."""
    notes: list[str] = []
    records = without_repeats(records, notes)
    first = records[0]
    header = ["Method", *FEW_SHOT_SETS.values(), "Average", "Params", "Seeds", "Protocol", "Remarks"]
    title = f"few-shot, {first['backbone']}, protocol {first['protocol']}: top-1 test accuracy (%)"
    table = Table(title, header, [], notes)
    if _published(first):
        for method, by_shots in FEW_SHOT.items():
            for shots, values in by_shots.items():
                cells = [f"{v:.1f}" for v in values]
                cells.append(f"{statistics.fmean(values):.1f}")
                table.rows.append([f"{method}, {shots}-shot", *cells, MISSING, MISSING, MISSING, PUBLISHED])
        notes.append(f"published: {FEW_SHOT_SOURCE}, means over three list seeds")
    names = row_names(records)
    for key, of_method in grouped(records, row_key).items():
        for shots, part in sorted(grouped(of_method, lambda r: r["shots"]).items()):
            tests = {s: known(r["test_accuracy"] for r in part if r["dataset"] == s) for s in FEW_SHOT_SETS}
            means = [statistics.fmean(v) for v in tests.values() if v]
            average = statistics.fmean(means) if len(means) == len(FEW_SHOT_SETS) else None
            params = known(r["params"] for r in part)
            table.add([
                f"{names[key]}, {shots}-shot", *(mean_sd(v) for v in tests.values()), percent(average),
                count(statistics.fmean(params) if params else None), span(len(v) for v in tests.values() if v),
                first["protocol"], _remarks(part),
            ], part)  # fmt: skip
    notes += mixing_notes(records)
    notes.append("± is the sample sd over list and training seeds; Average is of the five means")
    return table


def _remarks(part: Sequence[Record]) -> str:
    notes = [remarks(part[0]), "no augmentation" if part[0].get("augmentation") == "none" else ""]
    return ", ".join(filter(None, notes))


def _domain_table(records: list[Record]) -> Table:
    """ImageNet and the four targets; a row per method and class subset."""
    notes: list[str] = []
    records = without_repeats(records, notes)
    first = records[0]
    header = ["Method", "ImageNet", *TARGETS.values(), "Params", "Seeds", "Classes", "Protocol", "Remarks"]
    title = f"domain generalisation, {first['backbone']}, protocol {first['protocol']}: top-1 accuracy (%)"
    table = Table(title, header, [], notes)
    if _published(first):
        for method, values in DOMAIN.items():
            cells = [f"{v:.1f}" for v in values]
            table.rows.append([method, *cells, MISSING, MISSING, MISSING, MISSING, PUBLISHED])
        notes.append(f"published: {DOMAIN_SOURCE}")
    names = row_names(records)
    for key, part in grouped(records, row_key).items():
        columns = [known(r["test_accuracy"] for r in part)]
        columns += [known(r["targets"].get(t) for r in part) for t in TARGETS]
        params = known(r["params"] for r in part)
        classes = "all 1,000" if part[0]["class_subset"] == "none" else "A and R: their 200"
        table.add([
            names[key], *map(mean_sd, columns), count(statistics.fmean(params) if params else None),
            span([len({(r["seed"], r["list_seed"]) for r in part})]), classes, first["protocol"], _remarks(part),
        ], part)  # fmt: skip
    notes += mixing_notes(records)
    return table


def few_shot_curves(records: Sequence[Record]) -> dict[str, dict[str, Points]]:
    """Method to set to accuracies by shots: what the plot of Figure 2 draws."""
    records = rates_apart(records)
    names = row_names(records)
    curves: dict[str, dict[str, Points]] = {}
    for record in records:
        if record["test_accuracy"] is None:
            continue
        sets = curves.setdefault(names[row_key(record)], {})
        sets.setdefault(record["dataset"], {}).setdefault(record["shots"], []).append(record["test_accuracy"])
    return curves


SUITE_TABLES: Mapping[str, Callable[[list[Record]], Table]] = {
    "few_shot": _few_shot_table,
    "domain_generalization": _domain_table,
}
"""Suites whose tables have a shape of their own; each makes one of records of one backbone and protocol."""


def suite_tables(records: Sequence[Record]) -> list[Table]:
    """The tables of records of one of these suites, one per backbone and protocol."""
    groups = grouped(records, lambda r: (r["backbone"], r["protocol"]))
    return [SUITE_TABLES[part[0]["suite"]](part) for part in groups.values()]
