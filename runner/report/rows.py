"""Which results are one row of a table, as its tasks and seeds, and what the row is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from runner.report.result import PATH, Record

T = TypeVar("T")

RATE = "optimizer.lr"
"""The override of what is no part of a row's recipe, since the paper chooses it per task."""

RATES = frozenset((RATE, "dataset.lr"))
"""Both overrides that say it."""

TYPED_RATE = "typed_rate"
"""The key under which `rates_apart` says which rate a row of its own has; it is no part of a result's file."""

VARYING = ("dataset", "seed", "sweep")
"""Overrides that vary within a row."""


class Row(NamedTuple):
    """What must agree before two records may be averaged as seeds of one row; digests where a result has them."""

    label: str
    form: str
    hparams: str
    selected_on_test: bool
    recipe: str | None
    search: str | None
    augmentation: str | None
    class_subset: str | None
    rate: float | None
    """Of a row with a learning rate of its own (see `rates_apart`)."""


def row_key(record: Record) -> Row:
    """The row of a record within one table."""
    return Row(
        record["label"],
        record.get("form", ""),
        record["hparams"],
        bool(record["selected_on_test"]),
        record.get("recipe"),
        record.get("search"),
        record.get("augmentation"),
        record.get("class_subset"),
        record.get(TYPED_RATE),
    )


def full_key(record: Record) -> tuple[Row, str, str, str]:
    """The key of a row among those of all tables."""
    return row_key(record), record["suite"], record["backbone"], record["protocol"]


def grouped(values: Iterable[T], key: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Records, or whatever it is, by key, in order of first appearance."""
    groups: dict[Any, list[T]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups


def rates_apart(records: Sequence[Record]) -> list[Record]:
    """The records, those with a typed learning rate in rows of their own where one task and seed has several rates.

    Rates that were typed once per task, as the paper has them, stay one row.
    """
    several = {
        row
        for row, rivals in grouped(records, full_key).items()
        if any(len({r.get("lr") for r in cell}) > 1 for cell in grouped(rivals, _cell).values())
    }
    return [
        {**r, TYPED_RATE: r["lr"] if RATES & _words(r).keys() else None} if full_key(r) in several else r
        for r in records
    ]


def without_repeats(records: Sequence[Record], notes: list[str]) -> list[Record]:
    """One record per row, task and seed (a repeated seed is no further evidence): the last given one wins, noted."""
    kept: dict[tuple[object, ...], Record] = {}
    for record in rates_apart(records):
        key = full_key(record), _cell(record)
        if key in kept and {**kept[key], PATH: None} != {**record, PATH: None}:
            notes.append(f"{record['label']}, {record['dataset']}, seed {record['seed']}: several differing results; "
                         "the last one given is used")  # fmt: skip
        kept[key] = record
    return list(kept.values())


def row_names(records: Iterable[Record]) -> dict[Row, str]:
    """Row key to the row's name: the label, how its supernet and search differ from the paper's, what else tells."""
    rows = grouped(records, row_key)
    hparams = {key.hparams for key in rows}
    names = {}
    for (label, form, source), keys in grouped(rows, lambda key: (key.label, key.form, key.hparams)).items():
        told = _told({key: rows[key] for key in keys})
        for key in keys:
            variants = [*filter(None, [form]), *([f"hparams {source}"] if len(hparams) > 1 else []), *told[key]]
            names[key] = f"{label} ({', '.join(variants)})" if variants else label
    return {key: names[key] for key in rows}


def _cell(record: Record) -> tuple[object, ...]:
    return record["dataset"], record["seed"], record.get("shots"), record.get("list_seed")


def _words(record: Record) -> dict[str, str]:
    """The overrides of a record that do not vary within a row, and its rate in whichever word, by their keys.

    None in results of older versions.
    """
    pairs = (word.lstrip("+~").partition("=") for word in record.get("overrides", ()))
    return {key: value for key, _, value in pairs if key in RATES or key.partition(".")[0] not in VARYING}


def _images_told(key: Row, rivals: Iterable[Row]) -> list[str]:
    """Which images of a few-shot task a row is of, in the words that differ among rivals."""
    words = {"augmentation": [k.augmentation for k in rivals], "class_subset": [k.class_subset for k in rivals]}
    return [f"dataset.{name}={getattr(key, name)}" for name, values in words.items() if len(set(values)) > 1]


def _told(rivals: Mapping[Row, Sequence[Record]]) -> dict[Row, list[str]]:
    """What tells rows of one label, form and hparams apart: their epochs, else words that were typed, else digests.

    Augmentation and the classes that count are told where rows differ in them.
    """
    images = {key: (key.augmentation, key.class_subset) for key in rivals}
    if len(set(images.values())) > 1:
        found: dict[Row, list[str]] = {}
        for alike in grouped(rivals, images.__getitem__).values():
            inner = _told({key: rivals[key] for key in alike})
            found |= {key: [*_images_told(key, rivals), *inner[key]] for key in alike}
        return {key: found[key] for key in rivals}
    recipes = {key.recipe: part[0].get("epochs") for key, part in rivals.items()}
    searches, rates = {key.search for key in rivals}, {key.rate for key in rivals}
    told = None not in recipes.values() and len(set(recipes.values())) == len(recipes)
    if len(recipes) == 1 and len(searches) == 1 and len(rates) == 1:
        return {key: [] for key in rivals}
    if told and len(recipes) == len(rivals):
        return {key: [f"{recipes[key.recipe]} epochs"] for key in rivals}
    shared = {key: set.intersection(*(set(_words(r).items()) for r in part)) for key, part in rivals.items()}
    common = set.intersection(*shared.values())
    words = {key: [f"{k}={v}" for k, v in _words(part[0]).items() if (k, v) in shared[key] - common]
             for key, part in rivals.items()}  # fmt: skip
    known = all("overrides" in r for part in rivals.values() for r in part)
    if known and len({*map(tuple, words.values())}) == len(rivals):
        return words
    found = {}
    for key, part in rivals.items():
        recipe = f"{recipes[key.recipe]} epochs" if told else f"{part[0].get('trainer', 'trainer')} {key.recipe}"
        rate = [] if key.rate is None else [f"{RATE}={key.rate:g}"]
        found[key] = [recipe] * (len(recipes) > 1) + [str(key.search)] * (len(searches) > 1) + rate
    return found
