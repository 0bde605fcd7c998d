"""One job on two processes of the real torchrun, on a CPU: the figures of one process, and how all of them end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.rundir.weights import read_weights
from tests.helpers import ROOT
from tests.helpers.commands import forked
from tests.helpers.small_runs import command, only, run

# Adam divides a gradient by its own size, which makes a rounding of small ones as large as a step; SGD does not. Shares
# of 32 and 31 images.
WORDS = ["backbone.drop_path_rate=0", "optimizer.name=sgd", "trainer.batch_size=63"]
MARK = "TORCHRUN_TEST_LOG"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]


@contextmanager
def two(words: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command under torchrun; as it ends, none of its processes may be left."""
    with log.open("wb") as file:
        process = subprocess.Popen([*TORCHRUN, *words], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT,
                                   env=os.environ | {MARK: str(log)})  # fmt: skip
    try:
        yield process
        assert not ranks_of(log)
    finally:
        process.kill()
        process.wait()
        for one in ranks_of(log).values():
            os.kill(one, signal.SIGKILL)


def ranks_of(log: Path) -> dict[int, int]:
    """The processes that torchrun started with this log, by their ranks."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # another user's, or gone
            held = dict(v.partition("=")[::2] for v in file.read_bytes().decode(errors="replace").split("\0"))
            if held.get(MARK) == str(log) and "RANK" in held:
                found[int(held["RANK"])] = int(file.parent.name)
    return found


def wait_for(root: Path, pattern: str, torchrun: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 180
    while not list(root.rglob(pattern)) and time.monotonic() < deadline:
        assert torchrun.poll() is None
        time.sleep(0.02)


def said(log: Path) -> list[str]:
    """What our own processes say of their end."""
    return [line for line in log.read_text().splitlines() if line.startswith(("error: ", "stopped by"))]


def close(one: object, other: object) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def rows(root: Path) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = json.loads(only(root, "*seed0-*/train_train800.json").read_text())["rows"]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in kept]


def candidates(root: Path, search: str) -> list[dict[str, Any]]:
    held: list[dict[str, Any]] = json.loads(only(root, f"search/*/{search}.json").read_text())["candidates"]
    return held


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """What one process trains."""
    root = tmp_path_factory.mktemp("one")
    assert run("train.py", root, data_root, *WORDS).returncode == 0
    return root


@pytest.mark.slow
def test_two_processes_train_search_and_evaluate_as_one_does(one: Path, tmp_path: Path, data_root: Path) -> None:
    words = [*WORDS, "search.finetune_epochs=1"]
    with two(command("run.py", tmp_path / "two", data_root, *words), tmp_path / "log") as torchrun:
        assert torchrun.wait(240) == 0, (tmp_path / "log").read_text()
    log = (tmp_path / "log").read_text()
    assert log.count("2 processes share every batch") == log.count("epoch 3/3") == log.count("[1/1] digits glora") == 1
    assert "Traceback" not in log and "Warning" not in log
    close(rows(tmp_path / "two" / "digits"), rows(one))
    close(*(read_weights(only(root, "*seed0-*/weights.safetensors")) for root in (tmp_path / "two", one)))
    made = only(tmp_path / "two", "*seed0-*/config.json").parent
    assert made.name == only(one, "config.json").parent.name
    # The same weights, searched by one process.
    shutil.copytree(tmp_path / "two", tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "digits" / made.name / "search")
    assert run("search.py", tmp_path / "copy", data_root, *words).returncode == 0
    for name in ("evolution", "random"):
        found, expected = (candidates(tmp_path / root, name) for root in ("two", "copy"))
        close([c.pop("loss") for c in found], [c.pop("loss") for c in expected])
        assert found == expected and len(found) == 10
        winners = [only(tmp_path / root, f"search/*/subnet_{name}.json").read_text() for root in ("two", "copy")]
        assert winners[0] == winners[1]
    close(*(read_weights(only(tmp_path / root, "tuned/weights.safetensors")) for root in ("two", "copy")))


@pytest.mark.slow
def test_where_one_process_is_killed_all_end_and_one_alone_goes_on(one: Path, tmp_path: Path, data_root: Path) -> None:
    with two(command("train.py", tmp_path, data_root, *WORDS), tmp_path / "log") as torchrun:
        wait_for(tmp_path, "resume_*.pt", torchrun)
        os.kill(ranks_of(tmp_path / "log")[1], signal.SIGKILL)
        assert torchrun.wait(60) == 1
    lines = said(tmp_path / "log")
    assert len(lines) == 1 and "goes on from" in lines[0], (tmp_path / "log").read_text()
    assert not list(tmp_path.rglob("weights.safetensors"))
    again = run("train.py", tmp_path, data_root, *WORDS)
    assert again.returncode == 0 and "resuming after epoch" in again.stdout, again.stderr
    close(rows(tmp_path), rows(one))


@pytest.mark.slow
def test_a_signal_to_torchrun_keeps_the_step_and_is_said_once(one: Path, tmp_path: Path, data_root: Path) -> None:
    with two(command("train.py", tmp_path, data_root, *WORDS), tmp_path / "log") as torchrun:
        wait_for(tmp_path, "resume_*.pt", torchrun)
        torchrun.terminate()
        assert torchrun.wait(60) != 0
    lines = said(tmp_path / "log")
    assert len(lines) == 1 and lines[0].startswith("stopped by SIGTERM: "), (tmp_path / "log").read_text()
    again = run("train.py", tmp_path, data_root, *WORDS)
    assert again.returncode == 0 and "resuming after epoch" in again.stdout, again.stderr
    close(rows(tmp_path), rows(one))


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["train.py", "-m", "seed=0,1"], "share one job, and -m is of several; type it without torchrun"),
        (["run.py", "jobs=2"], "share one job, and jobs=2 is of several; type it without torchrun"),
        (["run.py", "seed=0,1"], "share one job, and these are 2; type it without torchrun"),
        (["train.py", "trainer.batch_size=1"], "trainer.batch_size=1 has not one image for each of the 2 processes"),
        (["prepare.py", "dataset=digits"], "this is none that can be shared; type it without torchrun"),
    ],
)
def test_what_the_processes_cannot_share_is_refused(
    tmp_path: Path, data_root: Path, words: list[str], problem: str
) -> None:
    own = words if words[0] == "prepare.py" else command(words[0], tmp_path, data_root, *words[1:])
    rank_0 = {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
              "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}  # fmt: skip
    found = forked(own, rank_0)
    assert found.returncode == 2 and problem in found.stderr and found.stderr.count("\n") == 1, found.stderr
    assert not list(tmp_path.rglob("config.json"))
