"""A page on W&B: beside the work, whole after a kill, nothing twice, and never in the way."""

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from runner.tracking import page as pages
from runner.tracking.metrics import read_metrics
from runner.tracking.page import Page
from runner.tracking.tracker import STEPS, Place, Tracker
from tests.helpers import ROOT
from tests.helpers.tracked import SilentRun, tracked
from tests.helpers.wandb_files import history, offline_files, records


def test_what_is_logged_before_wandb_is_there_reaches_it(tmp_path, fake_wandb):
    """It starts only when the stage has logged all: nothing of the stage waited for it."""
    run, may_start = SilentRun(), threading.Event()
    threads = []

    def init(**options):
        threads.append(threading.current_thread())
        assert may_start.wait(60)
        return run

    fake_wandb(init)
    with tracked(tmp_path, "online") as tracker:
        for epoch in range(3):
            tracker.log({"epoch": epoch}, step=epoch)
        assert run.sent == [] and len(read_metrics(tmp_path / "metrics.jsonl")) == 3
        may_start.set()
    assert run.sent == [(epoch, {"epoch": epoch}) for epoch in range(3)] and run.ended == [0]
    assert threads[0] is not threading.main_thread() and threads[0].daemon


def test_wandb_that_fails_to_start_costs_one_warning(tmp_path, fake_wandb, caplog):
    def init(**options):
        raise RuntimeError("no server")

    fake_wandb(init)
    with caplog.at_level(logging.WARNING), tracked(tmp_path, "online") as tracker:
        for step in range(3):
            tracker.log({"loss": 1.0}, step=step)
    assert len(caplog.records) == 1 and "no server" in caplog.text
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


@pytest.mark.parametrize("noticed", ["at the end", "by the next record"])
def test_wandb_that_hangs_is_left_behind_and_not_waited_for_at_the_end(tmp_path, fake_wandb, caplog, noticed):
    release = threading.Event()
    torn_down = fake_wandb(lambda **options: release.wait(60) and SilentRun())
    with tracked(tmp_path, "online", start_seconds=0.1) as tracker:
        if noticed == "by the next record":
            time.sleep(0.2)
        tracker.log({"loss": 1.0}, step=0)
        assert ("no answer within 0.1 s" in caplog.text) == (noticed == "by the next record")
    assert len(caplog.records) == 1 and "no answer within 0.1 s" in caplog.text
    assert torn_down.is_set()  # W&B's own end of the process would wait
    with tracked(tmp_path / "next", "online") as tracker:
        tracker.log({"loss": 1.0}, step=0)
    release.set()
    assert len(caplog.records) == 1


def test_wandb_that_breaks_later_is_dropped(tmp_path, fake_wandb, caplog):
    class Run(SilentRun):
        def log(self, values, step):
            super().log(values, step)
            raise OSError("disk full")

    run = Run()
    fake_wandb(lambda **options: run)
    with tracked(tmp_path, "online") as tracker:
        for step in range(3):
            tracker.log({"loss": 1.0}, step=step)
        tracker.summary({"test": 1.0})
    assert len(run.sent) == 1 and len(caplog.records) == 1
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


@pytest.mark.parametrize(
    ("error", "limit"), [(KeyboardInterrupt, "STOP_SECONDS"), (ValueError, "FINISH_SECONDS")], ids=["signal", "error"]
)
def test_an_upload_that_hangs_ends_with_the_limit_of_what_ended_the_job(
    tmp_path, fake_wandb, caplog, monkeypatch, error, limit
):
    release, codes = threading.Event(), []

    class Run(SilentRun):
        def finish(self, exit_code):
            codes.append(exit_code)
            release.wait(60)

    fake_wandb(lambda **options: Run())
    for name in ("STOP_SECONDS", "FINISH_SECONDS"):
        monkeypatch.setattr(pages, name, 0.3 if name == limit else 3600.0)
    with pytest.raises(error), tracked(tmp_path, "online") as tracker:
        tracker.log({"loss": 1.0}, step=0)
        raise error
    release.set()
    assert codes == [1] and "W&B finish failed (no answer within 0.3 s)" in caplog.text


def test_a_real_offline_run_and_its_sync_command(tmp_path):
    folder, said = tmp_path / "a run", []
    with tracked(folder, run_id="abc", prefix="train/", echo=said.append) as tracker:
        tracker.log({"epoch": 0, "loss": 0.5}, step=0)
        tracker.log({"epoch": 1, "loss": 0.25}, step=1)
        tracker.log_table("options", ["layer", "A"], [["qkv", "lora_8"], ["proj", None], ["fc1", 3]])
        tracker.log_table("candidates", ["params", "val_accuracy"], [[10, 0.5]])
        tracker.summary({"test": 0.75})
    (file,) = offline_files(folder)
    (line,) = said
    assert shlex.split(line[line.index("wandb sync") :]) == ["wandb", "sync", str(file.parent)]
    run_id, logged = history(file)
    assert run_id == "abc"
    assert [(r["_step"], r.get("train/loss")) for r in logged] == [(0, 0.5), (1, 0.25), (STEPS - 1, None)]
    assert logged[2]["train/options/nrows"] == 3
    assert logged[2]["train/candidates/nrows"] == logged[2]["train/candidates_scatter_table/nrows"] == 1


def test_two_runs_at_once_keep_apart(tmp_path):
    with tracked(tmp_path / "a", run_id="a") as first, tracked(tmp_path / "b", run_id="b") as second:
        for tracker, loss in ((first, 1.0), (second, 2.0)):
            tracker.log({"loss": loss}, step=0)
        first.log({"loss": 0.5}, step=1)
    assert [r["loss"] for r in history(offline_files(tmp_path / "a")[0])[1]] == [1.0, 0.5]
    assert [r["loss"] for r in history(offline_files(tmp_path / "b")[0])[1]] == [2.0]


STAGE = """
import os, signal, sys, time
from tests.helpers.tracked import tracked
with tracked(sys.argv[1], echo=print) as tracker:
    tracker.restore([{"step": epoch, "epoch": epoch, "loss": epoch / 2} for epoch in range(int(sys.argv[2]))])
    for epoch in range(int(sys.argv[2]), int(sys.argv[3])):
        tracker.log({"epoch": epoch, "loss": epoch / 2}, step=epoch)
    if sys.argv[4:] == ["killed"]:
        time.sleep(1)  # W&B names its folders by the second
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_offline_run_is_uploaded_whole_by_the_last_printed_command(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | {"PYTHONPATH": str(ROOT)}

    def stage(*args):
        command = [sys.executable, "-uc", STAGE, str(tmp_path), *args]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert stage("0", "5", "killed").returncode == -signal.SIGKILL
    done = stage("3", "7")  # what it had last saved is from before it was killed
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "wandb sync" in line]
    (file,) = Path(shlex.split(line)[-1]).glob("*.wandb")
    assert "from its first record on" in line or len(offline_files(tmp_path)) == 1  # killed before W&B was there
    assert [(r["_step"], r["epoch"], r["loss"]) for r in history(file)[1]] == [(e, e, e / 2) for e in range(7)]
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == list(range(7))


STOPPED = """
import os, signal, sys, time
from runner.signals import stoppable
from tests.helpers.tracked import tracked
with stoppable(), tracked(sys.argv[1]) as tracker:
    tracker.log({"epoch": 0}, step=0)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_signal_leaves_a_whole_offline_run_that_says_it_failed(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", STOPPED, str(tmp_path)], env=environment, capture_output=True)
    assert done.returncode == 1 and b"Stopped" in done.stderr
    (file,) = offline_files(tmp_path)
    assert [r["epoch"] for r in history(file)[1]] == [0]
    assert records(file)[-1].exit.exit_code == 1


def test_a_resumed_run_is_sent_the_steps_that_it_lacks(tmp_path, fake_wandb):
    """Offline runs begin empty; an online one, made up here, goes on after the last step that reached it."""
    with Tracker(tmp_path) as tracker:
        for epoch in range(5):
            tracker.log({"epoch": epoch, "loss": 1.0}, step=epoch)
    run = SilentRun(starting_step=2)
    fake_wandb(lambda **options: run)
    with tracked(tmp_path, "online", prefix="train/") as tracker:
        tracker.restore([{"step": epoch, "epoch": epoch, "loss": 1.0} for epoch in range(4)])
        tracker.log({"epoch": 4, "loss": 2.0}, step=4)
    assert run.sent == [(e, {"train/epoch": e, "train/loss": 1.0 + (e == 4)}) for e in (2, 3, 4)]
    run.starting_step = 5
    with tracked(tmp_path, "online") as tracker:
        tracker.log({"epoch": 5}, step=5)
    assert run.sent[3:] == [(5, {"epoch": 5})]


def test_what_a_finished_stage_left_is_sent_again_as_it_was(tmp_path):
    with Tracker(tmp_path / "search") as tracker:
        tracker.log({"generation": 0, "best": 0.5}, step=0)
        cells = [["random", 10, 0.5, None], ['a, "b"', -3, 1e-05, "1e"]]
        tracker.log_table("candidates", ["search", "params", "val_accuracy", "val_loss"], cells)
        tracker.summary({"best": 0.5})
    with Page(tmp_path, "abc", "offline", echo=lambda line: None) as page:
        page.send("replay", Place(page, "search/", 1).left(tmp_path / "search"))
        page.send("replay", Place(page, "tuned/", 2).left(tmp_path / "nowhere"))
    first, second = history(offline_files(tmp_path)[0])[1]
    assert (first["_step"], first["search/best"], first["search/generation"]) == (STEPS, 0.5, 0)
    assert second["_step"] == 2 * STEPS - 1
    (table,) = (offline_files(tmp_path)[0].parent / "files" / "media" / "table" / "search").glob("candidates_[0-9]*")
    assert json.loads(table.read_text())["data"] == cells


def test_files_of_a_finished_stage_that_cannot_be_read_stop_nothing(tmp_path, caplog):
    (tmp_path / "search" / "tables").mkdir(parents=True)
    (tmp_path / "search" / "tables" / "candidates.csv").write_bytes(b"\xff")
    (tmp_path / "search" / "tables" / "empty.csv").touch()
    with Page(tmp_path, "abc", "offline", echo=lambda line: None) as page:
        page.send("replay", Place(page, "search/", 1).left(tmp_path / "search"))
    (said,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "W&B replay failed" in said
