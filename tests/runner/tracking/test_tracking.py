"""Tracking: files that survive resumption, real offline W&B runs, and a W&B that fails without stopping anything."""

import csv
import json
import logging
import os
import pwd
import shlex
import signal
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from runner.tracking.metrics import read_metrics
from runner.tracking.server import reach, resolve_mode
from runner.tracking.tracker import Tracker, run_id_for
from tests.helpers import ROOT
from tests.helpers.wandb_files import history, offline_files


@pytest.fixture(autouse=True)
def no_account(tmp_path_factory, monkeypatch):
    """A home without credentials, so that no test can reach an account."""
    home_folder = tmp_path_factory.mktemp("home")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "http_proxy", "HTTP_PROXY", "all_proxy",
                 "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Tracker, "given_up", False)
    monkeypatch.setenv("HOME", str(home_folder))
    return home_folder


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


@pytest.fixture
def listening():
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing():
    """An address where connections are refused: nobody listens, and no other process is given the port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def fake_wandb(monkeypatch, listening):
    """Put a `wandb` whose `init` is given, with a server that is there unless told otherwise, in place of the real."""

    def put(init, base_url=listening, **more):
        module = types.ModuleType("wandb")
        module.Settings = lambda **settings: settings
        module.setup = lambda: types.SimpleNamespace(settings=types.SimpleNamespace(base_url=base_url, **more))
        module.init = init
        monkeypatch.setitem(sys.modules, "wandb", module)

    return put


def test_a_server_that_refuses_is_asked_once_and_never_waited_for(tmp_path, caplog, fake_wandb, refusing):
    def init(**options):
        raise AssertionError("W&B itself would wait for a minute")

    fake_wandb(init, refusing)
    for job in ("first", "second"):
        with Tracker(tmp_path / job, mode="online") as tracker:
            tracker.log({"loss": 1.0}, step=0)
        assert len(read_metrics(tmp_path / job / "metrics.jsonl")) == 1
    (record,) = caplog.records
    said = record.getMessage()
    assert "refused" in said and refusing.removeprefix("http://") in said and "later ones" in said
    with Tracker(tmp_path / "third", mode="offline", echo=lambda line: None):  # which needs no server
        assert "AssertionError" in caplog.text


@pytest.mark.parametrize("way", ["setting", "environment"])
def test_a_proxy_is_asked_in_place_of_the_server_behind_it(way, monkeypatch, listening, refusing):
    address = listening.removeprefix("http://")  # without a scheme, as some write it
    settings = types.SimpleNamespace(base_url="http://wandb.invalid", http_proxy=address if way == "setting" else None)
    if way == "environment":
        monkeypatch.setenv("http_proxy", listening)
    reach(settings)
    monkeypatch.setenv("no_proxy", "wandb.invalid")
    if way == "environment":
        with pytest.raises(ConnectionError, match="wandb.invalid:80"):
            reach(settings)


REFUSED = """
import sys
from runner.tracking.tracker import Tracker
for job in ("a", "b"):
    with Tracker(f"{sys.argv[1]}/{job}", mode="online") as tracker:
        tracker.log({"loss": 1.0}, step=0)
"""


def test_the_real_wandb_tells_where_its_server_is(tmp_path, refusing):
    environment = os.environ | {"WANDB_BASE_URL": refusing, "WANDB_API_KEY": "0" * 40, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.count("W&B start failed") == 1, done.stderr
    assert f"{refusing.removeprefix('http://')}: Connection refused" in done.stderr


def test_wandb_that_fails_to_start_costs_one_warning(tmp_path, fake_wandb, caplog):
    def init(**options):
        raise RuntimeError("no server")

    fake_wandb(init)
    with caplog.at_level(logging.WARNING), Tracker(tmp_path, mode="online") as tracker:
        for step in range(3):
            tracker.log({"loss": 1.0}, step=step)
    assert len(caplog.records) == 1 and "no server" in caplog.text
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


def test_wandb_that_hangs_is_left_behind(tmp_path, fake_wandb, caplog):
    fake_wandb(lambda **options: time.sleep(30))
    start = time.monotonic()
    with Tracker(tmp_path, mode="online", start_seconds=0.2) as tracker:
        tracker.log({"loss": 1.0}, step=0)
    assert time.monotonic() - start < 10
    assert "no answer within 0.2 s" in caplog.text


def test_wandb_that_breaks_later_is_dropped(tmp_path, fake_wandb, caplog):
    class Run:
        calls = 0

        def log(self, *args, **kwargs):
            Run.calls += 1
            raise OSError("disk full")

    fake_wandb(lambda **options: Run())
    with Tracker(tmp_path, mode="online") as tracker:
        for step in range(3):
            tracker.log({"loss": 1.0}, step=step)
        tracker.summary({"test": 1.0})
    assert Run.calls == 1 and len(caplog.records) == 1
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3


def test_auto_goes_online_only_where_a_key_is_configured(no_account, monkeypatch):
    assert resolve_mode("auto") == "offline"
    (no_account / ".netrc").write_text("machine example.org login a password b\n")
    assert resolve_mode("auto") == "offline"
    (no_account / ".netrc").write_text("machine api.wandb.ai login user password not-a-key\n")
    (no_account / ".netrc").chmod(0o600)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    (no_account / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "not-a-key")
    assert resolve_mode("auto") == "online"
    assert resolve_mode("offline") == "offline"
    with pytest.raises(ValueError, match="'on' is not one of"):
        resolve_mode("on")


def test_a_user_without_a_home_has_no_key(monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert resolve_mode("auto") == "offline"
