"""Metrics of a run: always `metrics.jsonl` and `metrics.csv` in its folder, and Weights & Biases when it works.

The files are the record; W&B is a copy that may fail at any time without stopping the run.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from data.files import appending, writing
from runner.failures import naming
from runner.tracking.metrics import read_metrics, read_summary
from runner.tracking.server import reach, resolve_mode

logger = logging.getLogger(f"glora.{__name__}")

START_SECONDS = 60.0
FINISH_SECONDS = 120.0
STOP_SECONDS = 5.0
"""For the upload of a run that a signal stopped: whoever sent it waits, and may send the next."""


def run_id_for(folder: Path | str, job_type: str = "") -> str:
    """The W&B id of a run folder: the same at every restart, different for each job type (train, search, ...)."""
    return hashlib.sha256(f"{Path(folder).resolve()}\0{job_type}".encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python numbers, arrays as lists, anything else JSON lacks as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _as_read(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a JSON file with `values` gives."""
    found: dict[str, Any] = json.loads(json.dumps(dict(values), default=_plain))
    return found


def _without_step(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "step"}


def _write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    """A crash while writing leaves the former file."""
    with writing(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        write(file)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    _write_atomically(path, lambda file: csv.writer(file, lineterminator="\n").writerows([columns, *rows]))


class Tracker:
    """Logs one run. Several may live in one process, one after the other or at once, each with its own folder.

    `mode` is auto, online, offline or disabled (see `resolve_mode`; files are written in each). The W&B id is
    `run_id_for(folder, job_type)`, so that a resumed run continues the same W&B run. `echo` prints the one line
    that tells how to upload an offline run. What earlier processes wrote to `metrics.jsonl` is sent again to a W&B
    run that lacks it: an offline one, which begins empty, or an online one whose last steps were lost with a killed
    process.

    A W&B server that fails to start a run, or to end it, is not asked again by this process.

    Raises:
        OSError: naming the file, if the folder cannot be written.
    """

    given_up = False
    """Whether this process has given up W&B's server."""

    def __init__(
        self,
        folder: Path | str,
        *,
        mode: str = "auto",
        project: str = "glora-vtab",
        name: str | None = None,
        group: str | None = None,
        job_type: str = "",
        config: Mapping[str, Any] | None = None,
        echo: Callable[[str], None] = print,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.mode = resolve_mode(mode)
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.run_id = run_id_for(self.folder, job_type)
        self.jsonl, self.csv = self.folder / "metrics.jsonl", self.folder / "metrics.csv"
        self._columns: list[str] = []
        self._step: int | None = None
        self._run: Any = None
        self._unsent = read_metrics(self.jsonl)
        self._rewrite(self._unsent)
        if self.mode != "disabled" and not (self.mode == "online" and Tracker.given_up):
            options = {"project": project, "name": name, "group": group, "job_type": job_type or None,
                       "config": _as_read(config or {})}  # fmt: skip
            self._start(options, start_seconds, echo)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        stopped = isinstance(error, KeyboardInterrupt)
        self.finish(failed=error is not None, seconds=STOP_SECONDS if stopped else FINISH_SECONDS)

    def _start(self, options: dict[str, Any], seconds: float, echo: Callable[[str], None]) -> None:
        def start() -> Any:
            import wandb

            # Own run objects (create_new) keep runs apart; a silent wandb leaves the console to the progress display.
            settings = wandb.Settings(silent=True, console="off", init_timeout=seconds, save_code=False)
            if self.mode == "online":
                reach(wandb.setup().settings)  # what its files and the environment say
            return wandb.init(**options, id=self.run_id, dir=str(self.folder.resolve()), mode=self.mode,
                              resume="allow", reinit="create_new", settings=settings)  # fmt: skip

        self._run = self._guard("start", start, seconds)
        if self._run is not None and self.mode == "offline":
            whole = ", from its first record on" if self._unsent else ""
            folder = shlex.quote(str(self._run.settings.sync_dir))
            echo(f"W&B is offline; to upload this run{whole}: wandb sync {folder}")

    def _guard(self, what: str, action: Callable[[], Any], seconds: float | None = None) -> Any:
        """The result of `action`, or None after one warning and the end of W&B logging if it fails or takes longer.

        With `seconds` it runs on a daemon thread, as wandb may wait for the network longer than its own timeouts say.
        """
        outcome: dict[str, Any] = {}

        def attempt() -> None:
            try:
                outcome["result"] = action()
            except Exception as error:  # whatever wandb raises: the metrics files are the record
                outcome["error"] = error

        if seconds is None:
            attempt()
        else:
            thread = threading.Thread(target=attempt, name=f"wandb-{what}", daemon=True)
            thread.start()
            thread.join(seconds)
        if "result" in outcome:
            return outcome["result"]
        self._run = None
        error = outcome.get("error")
        reason = f"{type(error).__name__}: {error}" if error else f"no answer within {seconds:g} s"
        Tracker.given_up |= self.mode == "online" and seconds is not None
        which = "this run and later ones of this command go" if Tracker.given_up else "this run goes"
        logger.warning("W&B %s failed (%s); %s on without it, metrics are in %s", what, reason, which, self.jsonl)
        return None

    def _send(self, what: str, action: Callable[[], Any]) -> None:
        """Hand W&B something after what earlier processes logged, unless it has ended."""
        if self._run is None:
            return
        unsent, self._unsent = self._unsent, []

        def send_earlier() -> bool:
            for record in sorted((r for r in unsent if "step" in r), key=lambda r: r["step"]):
                if record["step"] >= self._run.starting_step:  # it takes no step that it has
                    self._run.log(_without_step(record), step=record["step"])
                    self._step = record["step"]
            return True

        if (not unsent or self._guard("log", send_earlier)) and self._run is not None:
            self._guard(what, lambda: action() or True)

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
        self._send("log", lambda: self._run.log(_without_step(record), step=step))
        self._step = step

    def restore(self, records: Sequence[Mapping[str, Any]], key: str = "epoch") -> None:
        """Let `records` be all that was logged with `key` so far, whatever the files say: those of a resume file.

        A resume file proves what it holds, a line of `metrics.jsonl` does not. Records without `key` stay. W&B itself
        ignores a step that it already has. To be called before anything is logged.
        """
        others = [record for record in read_metrics(self.jsonl) if key not in record]
        self._unsent = [*map(_as_read, records), *others]
        self._rewrite(self._unsent)

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write `tables/<name>.csv` ("/" in the name becomes "_") and send it to W&B as a table."""
        path = self.folder / "tables" / f"{name.replace('/', '_')}.csv"
        _write_csv(path, columns, rows)

        def send() -> None:
            import wandb

            table = wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
            # At the last step: without one, wandb would advance its counter and drop the next log of that step.
            self._run.log({name: table}, step=self._step, commit=False if self._step is None else None)

        self._send("table", send)

    def summary(self, values: Mapping[str, Any]) -> None:
        """Merge `values` into `summary.json` and into the summary of the W&B run."""
        path = self.folder / "summary.json"
        merged = _as_read({**read_summary(path), **values})
        _write_atomically(path, lambda file: json.dump(merged, file, indent=2))
        self._send("summary", lambda: self._run.summary.update({key: merged[key] for key in values}))

    def finish(self, failed: bool = False, seconds: float = FINISH_SECONDS) -> None:
        """End the W&B run, waiting `seconds` at most for its upload; later calls do nothing."""
        self._send("log", lambda: None)
        run, self._run = self._run, None
        if run is not None:
            self._guard("finish", lambda: run.finish(exit_code=int(failed)) or True, seconds)
