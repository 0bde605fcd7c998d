"""Trackers: files that survive resumption."""

import csv
import json

import numpy as np
import pytest

from runner.tracking.metrics import read_metrics
from runner.tracking.tracker import Tracker


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_every_record_and_the_union_of_columns(tmp_path):
    with Tracker(tmp_path) as tracker:
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
    with Tracker(tmp_path) as tracker:
        for epoch in range(5):
            tracker.log({"epoch": epoch, "loss": 1.0}, step=epoch)
        tracker.log({"generation": 0, "best": 0.5}, step=0)
    whole = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text(whole + '{"step": 5, "epo')
    with Tracker(tmp_path) as tracker:
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
    with Tracker(tmp_path) as tracker:
        tracker.log({"epoch": 1}, step=1)
    assert [r["epoch"] for r in read_metrics(tmp_path / "metrics.jsonl")] == [0, 1]


def test_restoring_by_generation(tmp_path):
    with Tracker(tmp_path) as tracker:
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
    with Tracker(tmp_path) as tracker:
        for row in proven:
            tracker.log({k: v for k, v in row.items() if k != "step"}, row["step"])
    files = [tmp_path / "metrics.jsonl", tmp_path / "metrics.csv"]
    whole = [file.read_bytes() for file in files]
    lines = files[0].read_text().splitlines()
    files[0].write_text("\n".join([lines[0], line, *lines[2:]]))
    with Tracker(tmp_path) as tracker:
        tracker.restore(proven)
    assert [file.read_bytes() for file in files] == whole


def test_summary_and_tables_are_files_too(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.summary({"test": np.float64(0.5)})
        tracker.summary({"val": 0.75})
        tracker.log_table("search/top", ["params", "accuracy"], [[10, 0.5], [20, None]])
    assert json.loads((tmp_path / "summary.json").read_text()) == {"test": 0.5, "val": 0.75}
    assert rows(tmp_path / "tables" / "search_top.csv") == [{"params": "10", "accuracy": "0.5"},
                                                            {"params": "20", "accuracy": ""}]  # fmt: skip
