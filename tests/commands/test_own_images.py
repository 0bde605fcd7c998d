"""One's own images through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from tests.helpers.commands import forked
from tests.helpers.own_images import class_folders, fill
from tests.helpers.small_runs import TINY_VIT
from tests.helpers.vtab_raw import save


def test_own_images_through_the_command_line(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "insects")
    overrides = ["dataset=folder", f"dataset.root={root}", "dataset.train=48", f"data_root={tmp_path}", *TINY_VIT,
                 f"output_root={tmp_path / 'out'}", "method=linear", "trainer.batch_size=16"]  # fmt: skip
    for script in ("train.py", "evaluate.py"):
        done = forked([script, *overrides])
        assert done.returncode == 0, done.stderr
    record = json.loads(next((tmp_path / "out").rglob("result.json")).read_text())
    assert record["dataset"].startswith("folder-insects-") and record["training_images"] == 48
    for bad, message in (
        ("trainer.batch_size=64", "more than the 48 training images"),
        ("dataset.root=/none", "not a folder"),
        ("dataset.root=null", "needs dataset.root="),
    ):
        done = forked(["train.py", *overrides, bad])
        assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


def test_repeats_copies_and_contradictions_through_the_command_line(tmp_path: Path) -> None:
    root = fill(tmp_path / "set", "x", count=40)
    save(root / "x" / "40.png", np.zeros((9, 9, 3), np.uint8))
    shutil.copy(root / "x" / "40.png", root / "x" / "41.png")
    lines = "".join(f"x/{i}.png {i % 2}\n" for i in range(42))
    (root / "list.txt").write_text(f"{lines}x/7.png 1\n", encoding="utf-8-sig")
    command = ["train.py", "dataset=folder", f"dataset.root={root}", *TINY_VIT, "method=linear",
               "trainer.batch_size=16", f"data_root={tmp_path}", f"output_root={tmp_path / 'out'}"]  # fmt: skip
    done = forked(command)
    assert done.returncode == 0, done.stderr
    assert "1 repeats are dropped, the first is" in done.stdout and "list.txt:43" in done.stdout
    assert "1 images have the content of another" in done.stdout and "1 have more than one label" in done.stdout
    (root / "list.txt").write_text(f"{lines}x/7.png 0\n")
    done = forked(command)
    assert done.returncode == 2 and "list.txt:8 and " in done.stderr and "list.txt:43 give one" in done.stderr
    assert "Traceback" not in done.stderr
