"""Tracking: files that survive resumption, and real offline W&B runs."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runner.tracking.metrics import read_metrics
from runner.tracking.tracker import Tracker, run_id_for
from tests.helpers import ROOT
from tests.helpers.wandb_files import history, offline_files


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_every_record_and_the_union_of_columns(tmp_path):
    with Tracker(tmp_path, mode="disabled") as tracker:
        tracker.log({"epoch": 0, "loss": np.float32(0.5)}, step=0)
        tracker.log({"epoch": 1, "loss": 0.25, "val/largest": 0.75}, step=1)
        tracker.log({"epoch": 2, "loss": 0.125}, step=2)
    assert read_metrics(tmp_path / "metrics.jsonl") == [
        {"step": 0, "epoch": 0, "loss": 0.5},
        {"step": 1, "epoch": 1, "loss": 0.25, "val/largest": 0.75},
        {"step": 2, "epoch": 2, "loss": 0.125},
    ]
    table = rows(tmp_path / "metrics.csv")
    assert [row["val/largest"] for row in table] == ["", "0.75", ""]
    assert [row["loss"] for row in table] == ["0.5", "0.25", "0.125"]
    assert not (tmp_path / "wandb").exists()


def test_resuming_leaves_no_duplicates_and_mends_a_torn_line(tmp_path):
    with Tracker(tmp_path, mode="disabled") as tracker:
        for epoch in range(5):
            tracker.log({"epoch": epoch, "loss": 1.0}, step=epoch)
        tracker.log({"generation": 0, "best": 0.5}, step=0)
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole + '{"step": 5, "epo')
    with Tracker(tmp_path, mode="disabled") as tracker:
        assert (tmp_path / "metrics.jsonl").read_text() == whole
        tracker.restore([{"step": epoch, "epoch": epoch, "loss": 1.0} for epoch in range(3)])
        for epoch in range(3, 6):
            tracker.log({"epoch": epoch, "loss": 2.0}, step=epoch)
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["epoch"] for r in records if "epoch" in r] == [0, 1, 2, 3, 4, 5]
    assert [r["loss"] for r in records if "loss" in r] == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    assert [r["best"] for r in records if "best" in r] == [0.5]  # another stage's record stays
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == ["0", "1", "2", "", "3", "4", "5"]


def test_a_last_line_that_only_lacks_its_newline_is_kept(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "epoch": 0}')
    with Tracker(tmp_path, mode="disabled") as tracker:
        tracker.log({"epoch": 1}, step=1)
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


def test_restoring_by_generation(tmp_path):
    with Tracker(tmp_path, mode="disabled") as tracker:
        tracker.restore([], key="generation")
        assert not list(tmp_path.iterdir())
        for generation in range(3):
            tracker.log({"generation": generation}, step=generation)
        tracker.restore([{"step": 0, "generation": np.int64(0)}], key="generation")
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 0, "generation": 0}]


@pytest.mark.parametrize("line", ['{"step": 1, "epoch": 1, "loss": NaN}', '{"step": 1, "epoch": 1, "loss": 0.5}', "[",
                                  '{"step": 1, "epoch": true, "loss": ""}', '{"step": 1, "epoch": 9}', ""])  # fmt: skip
def test_what_a_resume_file_proves_does_not_depend_on_the_lines_of_a_log(tmp_path, line):
    proven = [{"step": epoch, "epoch": epoch, "loss": 1.0} for epoch in range(3)]
    with Tracker(tmp_path, mode="disabled") as tracker:
        for row in proven:
            tracker.log({k: v for k, v in row.items() if k != "step"}, row["step"])
    files = [tmp_path / "metrics.jsonl", tmp_path / "metrics.csv"]
    whole = [file.read_bytes() for file in files]
    lines = files[0].read_text().splitlines()
    files[0].write_text("\n".join([lines[0], line, *lines[2:]]))
    with Tracker(tmp_path, mode="disabled") as tracker:
        tracker.restore(proven)
    assert [file.read_bytes() for file in files] == whole


def test_summary_and_tables_are_files_too(tmp_path):
    with Tracker(tmp_path, mode="disabled") as tracker:
        tracker.summary({"test": np.float64(0.5)})
        tracker.summary({"val": 0.75})
        tracker.log_table("search/top", ["params", "accuracy"], [[10, 0.5], [20, None]])
    assert json.loads((tmp_path / "summary.json").read_text()) == {"test": 0.5, "val": 0.75}
    assert rows(tmp_path / "tables" / "search_top.csv") == [{"params": "10", "accuracy": "0.5"},
                                                            {"params": "20", "accuracy": ""}]  # fmt: skip


def test_a_real_offline_run_and_its_sync_command(tmp_path, capsys):
    folder = tmp_path / "a run"
    tracker = Tracker(folder, group="mini", job_type="train", name="digits", config={"seed": 0, "path": Path("x")})
    assert tracker.mode == "offline"
    tracker.log({"epoch": 0, "loss": 0.5}, step=0)
    tracker.log_table("options", ["layer", "A"], [["qkv", "lora_8"], ["proj", None], ["fc1", 3]])
    tracker.log({"epoch": 1, "loss": 0.25}, step=1)
    tracker.summary({"test": 0.75})
    tracker.finish()
    tracker.finish()
    (file,) = offline_files(folder)
    printed = [line for line in capsys.readouterr().out.splitlines() if "wandb sync" in line]
    assert len(printed) == 1
    assert shlex.split(printed[0][printed[0].index("wandb sync") :]) == ["wandb", "sync", str(file.parent)]
    run_id, logged = history(file)
    assert run_id == tracker.run_id == run_id_for(folder, "train")
    assert [(r["_step"], r["loss"]) for r in logged] == [(0, 0.5), (1, 0.25)]
    assert logged[0]["options/nrows"] == 3


def test_two_runs_at_once_and_a_restart_keep_their_ids(tmp_path):
    first = Tracker(tmp_path / "a", mode="offline", echo=lambda line: None)
    second = Tracker(tmp_path / "b", mode="offline", echo=lambda line: None)
    assert first.run_id != second.run_id
    for tracker, loss in ((first, 1.0), (second, 2.0)):
        tracker.log({"loss": loss}, step=0)
    second.finish()
    first.log({"loss": 0.5}, step=1)
    first.finish()
    assert [r["loss"] for r in history(offline_files(tmp_path / "a")[0])[1]] == [1.0, 0.5]
    assert [r["loss"] for r in history(offline_files(tmp_path / "b")[0])[1]] == [2.0]
    with Tracker(tmp_path / "a", mode="offline", echo=lambda line: None) as again:
        assert again.run_id == first.run_id
    assert run_id_for(tmp_path / "a", "train") != run_id_for(tmp_path / "a", "search")


STAGE = """
import os, signal, sys, time
from runner.tracking.tracker import Tracker
with Tracker(sys.argv[1], mode="offline") as tracker:
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
        command = [sys.executable, "-c", STAGE, str(tmp_path), *args]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    assert stage("0", "5", "killed").returncode == -signal.SIGKILL
    done = stage("3", "7")  # what it had last saved is from before it was killed
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "wandb sync" in line]
    assert "from its first record on" in line
    (file,) = Path(shlex.split(line)[-1]).glob("*.wandb")
    assert len(offline_files(tmp_path)) == 2
    assert [(r["_step"], r["epoch"], r["loss"]) for r in history(file)[1]] == [(e, e, e / 2) for e in range(7)]
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == list(range(7))


def test_a_resumed_run_is_sent_the_steps_that_it_lacks(tmp_path, fake_wandb):
    """Offline runs begin empty; an online one, made up here, goes on after the last step that reached it."""
    sent = []

    class Run:
        starting_step = 2

        def log(self, values, step):
            sent.append((step, values))

        def finish(self, exit_code):
            pass

    with Tracker(tmp_path, mode="disabled") as tracker:
        for epoch in range(5):
            tracker.log({"epoch": epoch, "loss": 1.0}, step=epoch)
    fake_wandb(lambda **options: Run())
    with Tracker(tmp_path, mode="online") as tracker:
        tracker.restore([{"step": epoch, "epoch": epoch, "loss": 1.0} for epoch in range(4)])
        tracker.log({"epoch": 4, "loss": 2.0}, step=4)
    assert sent == [(2, {"epoch": 2, "loss": 1.0}), (3, {"epoch": 3, "loss": 1.0}), (4, {"epoch": 4, "loss": 2.0})]
    sent.clear()
    with Tracker(tmp_path, mode="online"):
        pass
    assert [step for step, _ in sent] == [2, 3, 4]
