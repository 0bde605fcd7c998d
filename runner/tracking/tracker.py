"""Metrics of one stage of a run: always `metrics.jsonl` and `metrics.csv` in its folder, and its job's page on W&B.

The files are the record; W&B is a copy that may fail at any time without stopping the run.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from data.files import appending, read_bytes, writing
from runner.failures import naming
from runner.tracking.metrics import read_metrics, read_summary
from runner.tracking.page import Action, Page

if TYPE_CHECKING:
    import wandb

STEPS = 10_000_000
"""W&B's own steps that a stage has: more than its epochs. The last one is for what is no curve."""
SCATTERED = ("params", "val_accuracy")
"""Columns of a table that W&B shows as a scatter plot too."""


@dataclass(frozen=True)
class Place:
    """Where a stage stands on its job's page: the beginning of its metrics' names, and how many stages come before it.

    W&B's own steps follow from the order of stages and from epochs, so that a run which is continued in another
    process knows what it has.
    """

    page: Page
    prefix: str = ""
    order: int = 0

    def record(self, record: Mapping[str, Any]) -> Action:
        """A record with its "step"."""
        named = self._named({key: value for key, value in record.items() if key != "step"})
        return self.page.at(self.order * STEPS + int(record["step"]), lambda: named)

    def shown(self, make: Callable[[], Mapping[str, Any]]) -> Action:
        """Tables, images, charts, which `make` makes on W&B's thread."""
        return self.page.at((self.order + 1) * STEPS - 1, lambda: self._named(make()))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Action:
        """A table, and a scatter plot where it has the columns for it."""

        def make() -> Mapping[str, Any]:
            import wandb

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
            x, y = SCATTERED
            both = {*SCATTERED} <= {*columns}
            return {name: table} | ({f"{name}_scatter": wandb.plot.scatter(table, x, y, name)} if both else {})

        return self.shown(make)

    def summary(self, values: Mapping[str, Any]) -> Action:
        """Values of the run as a whole."""
        named = self._named(values)
        return lambda run: run.summary.update(named)

    def left(self, folder: Path) -> Action:
        """All that an earlier process left in the folder of a stage, which is finished: read on W&B's thread."""

        def replay(run: wandb.Run) -> None:
            for record in in_order(read_metrics(folder / "metrics.jsonl")):
                self.record(record)(run)
            for path in sorted((folder / "tables").glob("*.csv")):
                columns, *rows = csv.reader(read_bytes(path).decode().splitlines(keepends=True))
                self.table(path.stem, columns, [[_value(text) for text in row] for row in rows])(run)
            if values := read_summary(folder / "summary.json"):
                self.summary(values)(run)

        return replay

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self.prefix}{key}": value for key, value in values.items()}


def in_order(records: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records that have a step, by it."""
    return sorted((r for r in records if "step" in r), key=lambda r: int(r["step"]))


def _value(text: str) -> Any:
    """A cell of a CSV file as what was written."""
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return int(text) if text.lstrip("-").isdigit() else number


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python numbers, arrays as lists, anything else JSON lacks as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON file with `values` gives."""
    found: dict[str, Any] = json.loads(json.dumps(dict(values), default=_plain))
    return found


def _write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    """A crash while writing leaves the former file."""
    with writing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        write(file)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    _write_atomically(path, lambda file: csv.writer(file, lineterminator="\n").writerows([columns, *rows]))


class Tracker:
    """Logs one stage of a run, into a folder of its own and, where it has a place there, on the page of its job.

    What earlier processes wrote to `metrics.jsonl` is sent again: an offline W&B run begins empty, and one that is
    continued leaves out what it has.

    Raises:
        OSError: naming the file, if the folder cannot be written.
    """

    def __init__(self, folder: Path | str, place: Place | None = None) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.jsonl, self.csv = self.folder / "metrics.jsonl", self.folder / "metrics.csv"
        self._place = place
        self._columns: list[str] = []
        self._unsent = read_metrics(self.jsonl)
        self._rewrite(self._unsent)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._place is not None:
            self._send_earlier(self._place)

    def send(self, what: str, action: Callable[[Place], Action]) -> None:
        """Hand W&B what no file is made of, after all that was logged; `what` names it in a warning."""
        if self._place is not None:
            self._send_earlier(self._place)
            self._place.page.send(what, action(self._place))

    def _send_earlier(self, place: Place) -> None:
        for record in in_order(self._unsent):
            place.page.send("log", place.record(record))
        self._unsent = []

    def _rewrite(self, records: list[dict[str, Any]]) -> None:
        """Replace both files with `records` (also what mends a torn last line). Makes none where there is nothing."""
        self._columns = list(dict.fromkeys(key for record in records for key in record))
        if not records and not self.jsonl.exists():
            return
        _write_atomically(self.jsonl, lambda file: file.writelines(json.dumps(r) + "\n" for r in records))
        self._write_csv(records)

    def _write_csv(self, records: list[dict[str, Any]]) -> None:
        _write_csv(self.csv, self._columns, ([record.get(c, "") for c in self._columns] for record in records))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Append one record, {"step": step, **metrics}, to the files and send it to W&B at that step."""
        record = _as_read({"step": step, **metrics})
        with naming(self.jsonl), appending(self.jsonl) as file:
            file.write(json.dumps(record) + "\n")
        new = [key for key in record if key not in self._columns]
        self._columns += new
        if new:
            self._write_csv(read_metrics(self.jsonl))
        else:
            with naming(self.csv), appending(self.csv) as file:
                csv.writer(file, lineterminator="\n").writerow([record.get(c, "") for c in self._columns])
        self.send("log", lambda place: place.record(record))

    def restore(self, records: Sequence[Mapping[str, Any]], key: str = "epoch") -> None:
        """Let `records` be all that was logged with `key` so far, whatever the files say: those of a resume file.

        A resume file proves what it holds, a line of `metrics.jsonl` does not. Records without `key` stay. The page
        leaves out the steps that W&B has. To be called before anything is logged.
        """
        others = [record for record in read_metrics(self.jsonl) if key not in record]
        self._unsent = [*map(_as_read, records), *others]
        self._rewrite(self._unsent)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write `tables/<name>.csv` ("/" in the name becomes "_") and send it to W&B as a table."""
        _write_csv(self.folder / "tables" / f"{name.replace('/', '_')}.csv", columns, rows)
        self.send("table", lambda place: place.table(name, columns, rows))

    def summary(self, values: Mapping[str, Any]) -> None:
        """Merge `values` into `summary.json` and into the summary of the W&B run."""
        path = self.folder / "summary.json"
        merged = _as_read({**read_summary(path), **values})
        _write_atomically(path, lambda file: json.dump(merged, file, indent=2))
        self.send("summary", lambda place: place.summary({key: merged[key] for key in values}))
