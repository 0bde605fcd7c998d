"""Metrics of a run: always `metrics.jsonl` and `metrics.csv` in its folder, and Weights & Biases when it works.

The files are the record; W&B is a copy that may fail at any time without stopping the run.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import netrc
import os
import shlex
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlparse

logger = logging.getLogger(f"glora.{__name__}")

Mode = Literal["online", "offline", "disabled"]
"""What W&B does."""

WANDB_MODES: tuple[Mode, ...] = ("online", "offline", "disabled")
MODES = ("auto", *WANDB_MODES)
START_SECONDS = 60.0
FINISH_SECONDS = 120.0


def run_id_for(folder: Path | str, job_type: str = "") -> str:
    """The W&B id of a run folder: the same at every restart, different for each job type (train, search, ...)."""
    return hashlib.sha256(f"{Path(folder).resolve()}\0{job_type}".encode()).hexdigest()[:16]


def resolve_mode(mode: str) -> Mode:
    """ "auto" as WANDB_MODE says, else "online" where a W&B key is configured and "offline" where not.

    Only asks whether a key is there.

    Raises:
        ValueError: on an unknown mode.
    """
    if mode not in MODES:
        raise ValueError(f"tracking mode {mode!r} is not one of {', '.join(MODES)}")
    wanted = os.environ.get("WANDB_MODE", "").lower() if mode == "auto" else mode
    for known in WANDB_MODES:
        if wanted == known:
            return known
    return "online" if os.environ.get("WANDB_API_KEY") or _netrc_has_key() else "offline"


def _netrc_has_key() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    named = os.environ.get("NETRC")
    for path in [named] if named else ["~/.netrc", "~/_netrc"]:
        try:
            # hosts rather than authenticators(): a "default" entry is no W&B key
            if host in netrc.netrc(os.path.expanduser(path)).hosts:  # without a home folder, a file that is not there
                return True
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):
            continue
    return False


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; none if absent. Lines torn by a crash are left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def _plain(value: Any) -> Any:
    """NumPy and torch scalars as Python numbers, arrays as lists, anything else JSON lacks as text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _without_step(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "step"}


def _write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    """A crash while writing leaves the former file."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        write(file)
    os.replace(temporary, path)


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    _write_atomically(path, lambda file: csv.writer(file, lineterminator="\n").writerows([columns, *rows]))


class Tracker:
    """Logs one run. Several may live in one process, one after the other or at once, each with its own folder.

    `mode` is auto, online, offline or disabled (see `resolve_mode`; files are written in each). The W&B id is
    `run_id_for(folder, job_type)`, so that a resumed run continues the same W&B run. `echo` prints the one line
    that tells how to upload an offline run. What earlier processes wrote to `metrics.jsonl` is sent again to a W&B
    run that lacks it: an offline one, which begins empty, or an online one whose last steps were lost with a killed
    process.

    Raises:
        OSError: if the folder cannot be written.
    """

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
        if self.mode != "disabled":
            options = {"project": project, "name": name, "group": group, "job_type": job_type or None,
                       "config": json.loads(json.dumps(dict(config or {}), default=_plain))}  # fmt: skip
            self._start(options, start_seconds, echo)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.finish(failed=error is not None)

    def _start(self, options: dict[str, Any], seconds: float, echo: Callable[[str], None]) -> None:
        def start() -> Any:
            import wandb

            # Own run objects (create_new) keep runs apart; a silent wandb leaves the console to the progress display.
            settings = wandb.Settings(silent=True, console="off", init_timeout=seconds, save_code=False)
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
        logger.warning("W&B %s failed (%s); this run goes on without it, metrics are in %s", what, reason, self.jsonl)
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
        record = json.loads(json.dumps({"step": step, **metrics}, default=_plain))
        with self.jsonl.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        new = [key for key in record if key not in self._columns]
        self._columns += new
        if new:
            self._write_csv(read_metrics(self.jsonl))
        else:
            with self.csv.open("a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow([record.get(c, "") for c in self._columns])
        self._send("log", lambda: self._run.log(_without_step(record), step=step))
        self._step = step

    def truncate_after(self, epoch: int, key: str = "epoch") -> None:
        """Drop the records whose `key` is `epoch` or later, which a run resumed at `epoch` logs again.

        Records without `key` stay. W&B itself ignores a step it already has. To be called before anything is logged.
        """
        kept = [record for record in read_metrics(self.jsonl) if key not in record or record[key] < epoch]
        self._rewrite(kept)
        self._unsent = [record for record in self._unsent if record in kept]

    def log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Write `tables/<name>.csv` ("/" in the name becomes "_") and send it to W&B as a table."""
        path = self.folder / "tables" / f"{name.replace('/', '_')}.csv"
        path.parent.mkdir(exist_ok=True)
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
        try:
            merged = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        except json.JSONDecodeError:
            merged = {}
        merged = json.loads(json.dumps({**merged, **values}, default=_plain))
        _write_atomically(path, lambda file: json.dump(merged, file, indent=2))
        self._send("summary", lambda: self._run.summary.update({key: merged[key] for key in values}))

    def finish(self, failed: bool = False, seconds: float = FINISH_SECONDS) -> None:
        """End the W&B run, waiting `seconds` at most for its upload; later calls do nothing."""
        self._send("log", lambda: None)
        run, self._run = self._run, None
        if run is not None:
            self._guard("finish", lambda: run.finish(exit_code=int(failed)) or True, seconds)
