"""A job's run on Weights & Biases: started and fed on a thread of its own, beside the work.

It is a copy of what the run directory holds, and may fail at any time without stopping the job.
"""

from __future__ import annotations

import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

from runner.tracking.server import Mode, reach

if TYPE_CHECKING:
    import wandb

logger = logging.getLogger(f"glora.{__name__}")

START_SECONDS = 60.0
FINISH_SECONDS = 120.0
STOP_SECONDS = 5.0
"""For the upload of a run that a signal stopped: whoever sent it waits, and may send the next."""
LEAVE_SECONDS = 1.0
"""For W&B to take its end out of that of the process."""

Action = Callable[["wandb.Run"], object]


class Page:
    """One W&B run. Several may live in one process, one after the other or at once.

    Importing W&B, reaching its server and `wandb.init` take seconds to minutes; what is sent meanwhile waits in a
    queue, in its order. A failure at any point is one warning, and the end of this page. A server that fails to start
    a run, or to end it, is not asked again by this process.

    Args:
        folder: where W&B keeps its files, and where the metrics are that it is a copy of.
        run_id: of the W&B run, which is continued if it exists.
        mode: online, offline or disabled.
        options: further arguments of `wandb.init`.
        axes: the x-axes of metrics, by the beginning of both names: `{"train/": "epoch"}`.
        echo: prints the one line that tells how to upload an offline run.
        start_seconds: the limit of the start.
    """

    given_up = False
    """Whether this process has given up W&B's server."""

    def __init__(
        self,
        folder: Path,
        run_id: str,
        mode: Mode,
        options: Mapping[str, Any] | None = None,
        axes: Mapping[str, str] | None = None,
        echo: Callable[[str], None] = print,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.folder, self.run_id, self.mode = folder.resolve(), run_id, mode
        self._options, self._axes, self._echo = dict(options or {}), dict(axes or {}), echo
        self._start_seconds, self._deadline = start_seconds, time.monotonic() + start_seconds
        self._queue: SimpleQueue[tuple[str, Action] | None] = SimpleQueue()
        self._lock, self._started = threading.Lock(), threading.Event()
        self._failed, self._next_step = False, 0
        self._over = mode == "disabled" or (mode == "online" and Page.given_up)
        self._thread = threading.Thread(target=self._work, name=f"wandb-{run_id}", daemon=True)
        if not self._over:
            self._thread.start()

    def __enter__(self) -> Page:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        stopped = isinstance(error, KeyboardInterrupt)
        self.finish(failed=error is not None, seconds=STOP_SECONDS if stopped else FINISH_SECONDS)

    def send(self, what: str, action: Action) -> None:
        """Let `action` be called with the W&B run, on its thread and in turn; `what` names it in a warning."""
        if not self._over:
            if not self._started.is_set() and time.monotonic() > self._deadline:
                self._fail("start", f"no answer within {self._start_seconds:g} s")
            self._queue.put((what, action))

    def at(self, step: int, values: Callable[[], Mapping[str, Any]]) -> Action:
        """What logs the `values`, made on W&B's thread, at a step that does not fall from one to the next.

        Steps that the run has from an earlier process are left out, so that nothing is there twice.
        """

        def log(run: wandb.Run) -> None:
            if step >= self._next_step:
                self._next_step = step
                run.log(dict(values()), step=step)

        return log

    def finish(self, failed: bool = False, seconds: float = FINISH_SECONDS) -> None:
        """End the W&B run, waiting `seconds` at most, for its start too, or as long as that may take; once alone."""
        if self._over:
            return
        self._over = True
        self._queue.put(("finish", lambda run: run.finish(exit_code=int(failed))))
        self._queue.put(None)
        now = time.monotonic()
        started = self._started.wait(min(seconds, max(0.0, self._deadline - now)))
        if not started and time.monotonic() >= self._deadline:
            self._fail("start", f"no answer within {self._start_seconds:g} s")
            return
        self._thread.join(max(0.0, now + seconds - time.monotonic()))
        if self._thread.is_alive():
            self._fail("finish", f"no answer within {seconds:g} s")

    def _work(self) -> None:
        what = "start"
        try:
            run = self._start()
            self._next_step = run.starting_step
            self._started.set()
            while (item := self._queue.get()) is not None and not self._failed:
                what, action = item
                action(run)
        except Exception as error:  # whatever wandb raises: the metrics files are the record
            with suppress(OSError):  # of the log, on a full disk
                self._fail(what, f"{type(error).__name__}: {error}")
        finally:
            self._started.set()  # nobody waits for what will not be
            if self._failed and Page.given_up:
                _leave()

    def _start(self) -> wandb.Run:
        # Its reports of its own faults would wait for the server at the end of the process.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        # Own run objects (create_new) keep runs apart; a silent wandb leaves the console to the progress display.
        settings = wandb.Settings(silent=True, console="off", init_timeout=self._start_seconds, save_code=False)
        if self.mode == "online":
            reach(wandb.setup(wandb.Settings(silent=True)).settings)  # what its files and the environment say
        earlier = any((self.folder / "wandb").glob(f"*run-*-{self.run_id}"))
        self.folder.mkdir(parents=True, exist_ok=True)
        run = wandb.init(**self._options, id=self.run_id, dir=str(self.folder), mode=self.mode, resume="allow",
                         reinit="create_new", settings=settings)  # fmt: skip
        for prefix, axis in self._axes.items():
            run.define_metric(f"{prefix}{axis}", hidden=True)
            run.define_metric(f"{prefix}*", step_metric=f"{prefix}{axis}")
        if run.starting_step and not earlier:
            logger.warning("W&B has %s steps of run %s, whose folder is new here: they stay and hide the new ones; "
                           "delete that run there to see this one", run.starting_step, self.run_id)  # fmt: skip
        if self.mode == "offline":
            whole = ", from its first record on" if earlier else ""
            self._echo(f"W&B is offline; to upload this run{whole}: wandb sync {shlex.quote(run.settings.sync_dir)}")
        return run

    def _fail(self, what: str, reason: str) -> None:
        with self._lock:
            if self._failed:
                return
            self._failed = self._over = True
        Page.given_up |= self.mode == "online" and what in ("start", "finish")
        which = "this run and later ones of this command go" if Page.given_up else "this run goes"
        logger.warning("W&B %s failed (%s); %s on without it, metrics are in %s", what, reason, which, self.folder)
        if Page.given_up and threading.current_thread() is not self._thread:
            leaving = threading.Thread(target=_leave, name="wandb-leave", daemon=True)
            leaving.start()
            leaving.join(LEAVE_SECONDS)


def _leave() -> None:
    """Take W&B's end out of that of the process, where it would wait for its server for as long as that takes."""
    with suppress(Exception):
        import wandb

        wandb.teardown()
