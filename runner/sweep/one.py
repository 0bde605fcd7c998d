"""`python -m runner.sweep.one <words>`: one job in a process of its own, for `runner.sweep.local`."""

from __future__ import annotations

import os
import signal
import threading

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.config.run import Run
    from runner.rundir.lease import Held
    from runner.stages.whole import whole
    from runner.sweep.conf import RunConf
    from runner.sweep.local import AGAIN

HELD = "held"


def _end_with_parent() -> None:
    """Stop as a signal would when the parent is gone, which holds the other end of standard input."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _stage(run: Run) -> str:
    try:
        whole(run)
    except Held:
        return HELD
    return ""


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(_stage, lambda found: AGAIN if HELD in found else None, schema=RunConf)
