"""One page of a run or a sweep that opens from the disk, needs no network and leads from every number to its run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from data.files import write_text
from runner.report.result import PATH, Record
from runner.report.rows import full_key, grouped, rates_apart, row_key, row_names
from runner.report.run_section import RunSection, anchor, section
from runner.report.tables import Table

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """A table's cell: finished text, and the id of what it leads to, if anything."""

    text: str
    target: str | None = None


@dataclass(frozen=True)
class Part:
    """The runs of one method on one task, which differ in their seeds."""

    id: str
    title: str
    runs: Sequence[RunSection]


@dataclass(frozen=True)
class Chapter:
    """The runs of one row: of one method, backbone and protocol."""

    id: str
    title: str
    parts: Sequence[Part]


def _chapters(records: Sequence[Record], root: Path, page: Path) -> tuple[list[Chapter], dict[str, tuple[str, str]]]:
    """The chapters of these records, and by their paths the ids of chapter and part that hold each."""
    records = rates_apart(records)
    names, chapters = row_names(records), list[Chapter]()
    held: dict[str, tuple[str, str]] = {}
    for key, rows in grouped(records, full_key).items():
        title = f"{names[row_key(rows[0])]}: {rows[0]['suite']}, {rows[0]['backbone']}, protocol {rows[0]['protocol']}"
        parts = []
        for task, runs in grouped(rows, lambda r: (r["dataset"], r.get("shots"))).items():
            part = anchor(key, task)
            held |= {r[PATH]: (anchor(key), part) for r in runs}
            label = str(task[0]) + (f", {task[1]}-shot" if task[1] else "")
            parts.append(Part(part, label, [section(r, root, page, names[row_key(r)]) for r in runs]))
        chapters.append(Chapter(anchor(key), title, parts))
    return chapters, held


def _target(records: Sequence[Record], held: Mapping[str, tuple[str, str]]) -> str | None:
    """Where a number of these records leads: to their part where that is one, else to their chapter, else nowhere."""
    places = [held[r[PATH]] for r in records if r.get(PATH) in held]
    for level in (1, 0):
        if len({place[level] for place in places}) == 1:
            return places[0][level]
    return None


def _cells(table: Table, held: Mapping[str, tuple[str, str]]) -> list[list[Cell]]:
    def cell(row: int, column: int, text: str) -> Cell:
        behind = table.sources.get((row, column), table.sources.get((row, None), []))
        return Cell(text, _target(behind, held) if column == 0 or any(c.isdigit() for c in text) else None)

    return [[cell(i, j, text) for j, text in enumerate(row)] for i, row in enumerate(table.rows)]


def write_report(path: Path, tables: Sequence[Table], records: Sequence[Record], root: Path, title: str) -> Path:
    """Write the page.

    Args:
        path: of the HTML file.
        tables: what it begins with, made from `records`.
        records: as `collect` gives them for `root`, each with its path.
        title: of the page.
    """
    chapters, held = _chapters(records, root, path.parent)
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    shown = [{"title": t.title, "id": anchor(t.title), "header": t.header, "rows": _cells(t, held), "notes": t.notes}
             for t in tables]  # fmt: skip
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    text = environment.get_template("report.html").render(
        title=title, made=now, tables=shown, chapters=chapters, count=len(records)
    )
    write_text(path, text)
    return path
