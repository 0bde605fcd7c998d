"""What a report shows of one finished run, read from its directory alone: facts, pictures, classes, worst examples."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.files import read_bytes
from runner.report.predictions import PREDICTIONS, Examples, read_examples
from runner.report.result import PATH, RANDOM, Record
from runner.report.tables import MISSING, count, percent, selection_noise

CAPTIONS = {
    "candidates": "all candidates of the search, with their Pareto front and the winner",
    "options": "the chosen option of every support tensor",
    "params_by_type": "parameters by layer type",
    "gates": "the gates of the soup",
    "classes": "accuracy of each class on test",
    "confusion": "confusion matrix on test",
}
WIDE = ("options", "gates")
PLOTS = "plots"
SUFFIXES = (".svg", ".png")
"""The first is taken where both are there."""
COMPARATORS = {"largest": "the largest subnet", RANDOM: "random subnets, mean", "random_search": "random search",
               "untuned": "the winner before tuning", "scratch": "the same subnet from its initialization"}  # fmt: skip


def anchor(*parts: object) -> str:
    """An id for what these parts name: the same in every report, safe in a URL."""
    return "x" + hashlib.sha256(repr(parts).encode()).hexdigest()[:10]


@dataclass(frozen=True)
class Figure:
    """A picture inside the page: caption, its file in base64, whether it is much wider than high.

    An SVG is under gzip too, which leaves a tenth of it; the page's script unpacks it.
    """

    caption: str
    data: str
    svg: bool
    wide: bool


@dataclass
class RunSection:
    """One run: `directory` is where its result lies, relative to the report; `facts` are pairs of finished text."""

    id: str
    title: str
    accuracy: str
    directory: str
    command: str
    facts: list[tuple[str, str]]
    comparators: list[tuple[str, str]]
    figures: list[Figure]
    examples: list[Examples] = field(default_factory=list)


def run_directory(result: Path) -> Path:
    """The directory of the run that a result belongs to: its own, or that of the supernet that was searched."""
    found = result.parent if result.parent.name != "class_subset" else result.parent.parent
    return found.parent.parent if found.parent.name == "search" else found


def _pictures(directory: Path, whose: str) -> Iterator[Figure]:
    """The pictures that stages left in a directory; of each name the SVG where there is one."""
    # A link in a stranger's directory would put a file of the reader's own into a page that is handed on.
    found = {p for p in (directory / PLOTS).glob("*") if p.suffix in SUFFIXES and p.is_file() and not p.is_symlink()}
    for stem in sorted({path.stem for path in found}):
        path = next(p for s in SUFFIXES if (p := directory / PLOTS / f"{stem}{s}") in found)
        caption = CAPTIONS.get(stem, f"{whose}: loss, learning rate and validation accuracy by epoch"
                                     if stem.startswith("train_") else stem.replace("_", " "))  # fmt: skip
        if stem == "gates" and whose != "search":
            caption = f"{whose}: {caption}"
        svg, content = path.suffix == ".svg", read_bytes(path)
        if svg:
            content = gzip.compress(content, mtime=0)
        yield Figure(caption, base64.b64encode(content).decode(), svg, stem.startswith("train_") or stem in WIDE)


def figures(result: Path) -> list[Figure]:
    """All pictures of a run: of its training, its search, what followed the search, and its evaluation."""
    run, own = run_directory(result), result.parent
    found = [*_pictures(run, "training")]
    if own != run:
        found += _pictures(own, "search")
    for name, whose in (("tuned", "tuning of the winner"), ("scratch", "the winner from its initialization"),
                        ("retrained", "training of the winner")):  # fmt: skip
        found += _pictures(own / name, whose)
    return found


def _seconds(value: float | None) -> str:
    return MISSING if value is None else f"{value:,.0f} s"


def _facts(r: Record) -> Iterator[tuple[str, str]]:
    yield "test accuracy", percent(r["test_accuracy"]) + " %"
    if r["val_accuracy"] is not None:
        yield "validation accuracy", percent(r["val_accuracy"]) + " %"
    if r.get("selection_noise") is not None:
        yield "its standard error", selection_noise([r]) + " points"
    for how in ("tuned", "retrained"):
        if r.get(f"{how}_val_accuracy") is not None:
            yield f"validation accuracy, {how}", percent(r[f"{how}_val_accuracy"]) + " %"
    yield "parameters", count(r["params"])
    for key, title in (("training_seconds", "training"), ("search_seconds", "search"), ("tuning_seconds", "tuning")):
        if r.get(key) is not None:
            yield title, _seconds(r[key])
    if r.get("peak_memory_mb") is not None:
        yield "peak memory", f"{r['peak_memory_mb']:,.0f} MB"
    yield "protocol", f"{r['protocol']}{', ' + r['mark'] if r.get('mark') else ''}"
    yield "training images", count(r["training_images"])
    for key in ("trainer", "epochs", "lr", "batch_size", "hparams", "precision", "normalization", "source", "codec"):
        if r.get(key) is not None:
            yield key.replace("_", " "), str(r[key])
    environment: dict[str, Any] = r.get("environment") or {}
    yield from ((str(k), str(v)) for k, v in environment.items())


def _comparators(r: Record) -> Iterator[tuple[str, str]]:
    for key, title in COMPARATORS.items():
        found = r["comparators"].get(key) or {}
        test = found.get("test", found.get("test_mean"))
        if test is not None:
            title = f"{found['subnets']} {title}" if key == RANDOM else title
            params = f", {count(found['params'])} parameters" if found.get("params") else ""
            yield title, f"{percent(test)} %{params}"


def command(r: Record) -> str:
    """What to type to get this result again; empty for a result from before overrides were kept."""
    if "overrides" not in r:
        return ""
    scripts = ("train.py", *(["search.py"] if r.get("search") else []), "evaluate.py")
    return "\n".join(shlex.join(["python", script, *r["overrides"]]) for script in scripts)


def section(record: Record, root: Path, page: Path, name: str) -> RunSection:
    """The section of a record that `collect` found below `root`; links are relative to the folder `page`."""
    result = root / record[PATH]
    shots = f", {record['shots']}-shot, list {record['list_seed']}" if record.get("shots") else ""
    predictions = result.parent / PREDICTIONS
    return RunSection(
        id=anchor(record[PATH]),
        title=f"{name}, {record['dataset']}{shots}, seed {record['seed']}",
        accuracy=percent(record["test_accuracy"]),
        directory=Path(os.path.relpath(result.parent, page)).as_posix(),
        command=command(record),
        facts=list(_facts(record)),
        comparators=list(_comparators(record)),
        figures=figures(result),
        examples=read_examples(predictions) if predictions.is_file() else [],
    )
