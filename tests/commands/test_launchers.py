"""`run.py` under launchers of other processes: a worker that is killed, and what the same words then do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runner.rundir.lease import owner_of
from tests.helpers import ROOT
from tests.helpers.commands import fresh
from tests.helpers.results import results
from tests.helpers.small_runs import command

SWEEP = ["method=lora", "seed=0,1", "trainer.epochs=30"]
LAUNCHERS = [
    pytest.param(["hydra/launcher=ray"], id="ray", marks=pytest.mark.cluster),
    pytest.param(["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"], id="submitit_local",
                 marks=pytest.mark.slow),
]  # fmt: skip
AGAIN = ("hydra/launcher=ray",)
"""Those that start a lost worker again by themselves."""


def begun(words: list[str], root: Path) -> tuple[subprocess.Popen[str], Path]:
    """The command, and the directory of a run that has a checkpoint by now.

    In a fresh interpreter: the workers load what the typed process has loaded.
    """
    process = subprocess.Popen([sys.executable, "run.py", *words], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)  # fmt: skip
    deadline = time.time() + 240
    while not (found := list(root.glob("digits/*/resume_*.pt"))) and time.time() < deadline:
        time.sleep(0.05)
    return process, found[0].parent


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_killed_worker_costs_no_result(
    tmp_path: Path, data_root: Path, launcher: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As a job of Ray has: sums in another order end in other bits.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["-m", *command("run.py", tmp_path / "out", data_root, *SWEEP, *launcher)[1:]]
    whole = fresh(command("run.py", tmp_path / "whole", data_root, *SWEEP))
    assert whole.returncode == 0, whole.stderr
    process, folder = begun(words, tmp_path / "out")
    owner = owner_of(folder)
    assert owner is not None and owner.process != process.pid
    os.kill(owner.process, signal.SIGKILL)
    output, errors = process.communicate()
    assert process.returncode == (0 if launcher[0] in AGAIN else 2), output + errors
    if launcher[0] not in AGAIN:
        assert "1 of 2 jobs failed" in errors
    again = fresh(["run.py", *words])
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(tmp_path / "out") == results(tmp_path / "whole")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep_that_is_told_to_end_says_where_it_stands(tmp_path: Path, data_root: Path, launcher: list[str]) -> None:
    words = ["-m", *command("run.py", tmp_path, data_root, *SWEEP, *launcher)[1:]]
    process, _ = begun(words, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert "SIGTERM" in errors and "Traceback" not in errors and "***" not in errors
