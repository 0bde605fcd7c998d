"""Files of a run directory: whole or named, locked by one process, read whatever an editor put before them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from glora.space import LayerSpec, SearchSpace
from runner.config.errors import ConfigError
from runner.rundir.files import load_checkpoint, locked, read_json, read_subnet, save_checkpoint
from tests.helpers import ROOT


def test_a_truncated_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog):
    path = tmp_path / "resume.pt"
    save_checkpoint(path, {"epoch": 1})
    save_checkpoint(path, {"epoch": 2})
    path.write_bytes(path.read_bytes()[:100])
    assert load_checkpoint(path) == {"epoch": 1}


def test_a_busy_folder_is_refused_and_a_dead_ones_taken_over(tmp_path):
    holder = "import sys,time;from pathlib import Path;from runner.rundir.files import locked\n"
    holder += "with locked(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(ConfigError, match=f"process {process.pid}"), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass


def test_json_files_may_begin_with_an_editors_mark(tmp_path: Path) -> None:
    def marked(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8-sig")

    marked(tmp_path / "result.json", '{"val": "Zürich"}')
    assert read_json(tmp_path / "result.json", "val") == {"val": "Zürich"}
    space = SearchSpace((LayerSpec("fc", 8, 8),), (2,))
    marked(tmp_path / "subnet_a.json", space.to_json(space.largest))
    assert read_subnet(space, tmp_path, "a") == space.largest
