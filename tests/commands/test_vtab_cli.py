"""A VTAB task from its files to the table, through the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from subprocess import CompletedProcess

from tests.helpers.commands import forked
from tests.helpers.small_runs import TINY_VIT
from tests.helpers.vtab_raw import write_noah


def test_prepare_train_evaluate_a_vtab_task_of_full_size(tmp_path: Path) -> None:
    write_noah(tmp_path / "data" / "vtab-1k", "kitti_dist", "kitti")

    def run(script: str, *overrides: str) -> CompletedProcess[str]:
        return forked([script, "dataset=kitti_dist", f"data_root={tmp_path / 'data'}", *overrides])

    made = run("prepare.py", "source=noah")
    assert made.returncode == 0, made.stderr
    assert "ready from source=noah" in run("prepare.py", "source=noah").stdout
    # The probe: all 711 test images at 224 pixels pass once. The sweeps search, on smaller ones.
    for script in ("train.py", "evaluate.py"):
        done = run(script, f"output_root={tmp_path / 'out'}", *TINY_VIT, "method=linear")
        assert done.returncode == 0, done.stderr
    record = json.loads(next((tmp_path / "out").rglob("result.json")).read_text())
    assert (record["source"], record["codec"], record["resize"]) == ("noah", "jpeg75 (as stored)", "bicubic")
    assert "KITTI-Dist" in (tmp_path / "out" / "tables" / "table.md").read_text()
    wrong = run("train.py", f"output_root={tmp_path / 'out'}", *TINY_VIT, "codec=jpeg")
    assert wrong.returncode != 0 and "codec=jpeg is not one of raw, jpeg75" in wrong.stderr
    missing = run("train.py", f"output_root={tmp_path / 'out'}", *TINY_VIT, "source=raw")
    assert missing.returncode != 0 and "python prepare.py dataset=kitti_dist" in missing.stderr
