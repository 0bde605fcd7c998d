"""A finished table to the terminal, Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.cache import alone
from data.files import write_text
from runner.report.tables import Table
from runner.tracking.progress import spelled

if TYPE_CHECKING:
    from rich.console import Console


def to_rich(table: Table, console: Console | None = None) -> None:
    """Print with rich. A table wider than the console is cut into blocks of columns that all repeat the first one."""
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = console or Console()

    def shown(text: str) -> str:  # here rather than when it is written, so that columns stay aligned
        return spelled(text, console.encoding)

    header, *rows = ([shown(cell) for cell in line] for line in (table.header, *table.rows))
    widths = [max(map(len, column)) + 3 for column in zip(header, *rows, strict=True)]
    blocks: list[list[int]] = [[]]
    for index in range(1, len(widths)):
        if blocks[-1] and 1 + widths[0] + sum(widths[i] for i in blocks[-1]) + widths[index] > console.width:
            blocks.append([])
        blocks[-1].append(index)
    for number, block in enumerate(blocks):
        title = table.title if number == 0 else None
        grid = RichTable(title=Text(shown(title)) if title else None, title_justify="left")
        for index in [0, *block]:
            grid.add_column(Text(header[index]), justify="right" if index else "left", no_wrap=True)
        for row in rows:
            grid.add_row(*(Text(row[index]) for index in [0, *block]))  # Text: a label may hold [brackets]
        console.print(grid)
    for note in table.notes:
        console.print(Text(shown(f"Note: {note}")))


def to_markdown(table: Table) -> str:
    """A Markdown section: title, table, notes as a list."""
    lines = [table.header, ["---"] + ["---:"] * (len(table.header) - 1), *table.rows]
    body = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"### {table.title}\n\n{body}\n" + (f"\n{notes}" if notes else "")


def to_csv(table: Table) -> str:
    """CSV of header and rows, then the notes as "# ..." lines (pandas: `comment="#"`)."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table.header, *table.rows])
    return text.getvalue() + "".join(f"# {note}\n" for note in table.notes)


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"}
_LATEX |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_LATEX |= {character: "\\" + character for character in "&%$#_{}"}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)  # a minus, where a hyphen stands before a number


def _latex_row(row: Sequence[str]) -> str:
    """The cells; what begins with a bracket or a star would be an argument of the line break before it."""
    text = " & ".join(map(_latex, row)) + r" \\"
    return "{}" + text if text[0] in "[*" else text


def to_latex(table: Table) -> str:
    """A booktabs table; needs `\\usepackage{booktabs,graphicx}` (graphicx: shrunk to the text width)."""
    lines = [_latex_row(row) for row in [table.header, *table.rows]]
    notes = [rf"\par\footnotesize {_latex(note)}." for note in table.notes]
    return "\n".join([
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table}", r"\centering",
        rf"\caption{{{_latex(table.title)}}}",
        r"\resizebox{\textwidth}{!}{%", rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}", r"\toprule",
        lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}}", *notes, r"\end{table}", "",
    ])  # fmt: skip


def write_all(tables: Sequence[Table], folder: Path) -> list[Path]:
    """Write `table.md`, `table.csv` and `table.tex` with all tables into `folder` (made if absent)."""
    paths = []
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder / "table"):  # what a killed process left of them goes too
        for suffix, render in ((".md", to_markdown), (".csv", to_csv), (".tex", to_latex)):
            parts = [render(table) for table in tables]
            if suffix == ".csv" and len(tables) > 1:  # blocks of different columns: say where each begins
                parts = [f"# {table.title}\n{part}" for table, part in zip(tables, parts, strict=True)]
            paths.append(folder / f"table{suffix}")
            write_text(paths[-1], "\n".join(parts))
    return paths
