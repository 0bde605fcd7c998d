"""The benchmark's command line: a table with three rows, JSON with all it needs, and wrong words."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*words):
    return subprocess.run([sys.executable, "benchmark.py", *words], cwd=ROOT, capture_output=True, text=True)


def test_data_in_small(tmp_path):
    done = run("data", "images=140", "size=48x64", "repeats=2", f"json={tmp_path / 'x.json'}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5 and "| cached epoch |" in done.stdout
    found = json.loads((tmp_path / "x.json").read_text())
    assert all(len(v) == 2 and min(v) > 0 for v in found["images_per_second"].values())
    assert found["ratio_to_imagefolder"]["ImageFolder + DataLoader"] == [1.0, 1.0]
    assert found["hardware"]["processor"] and found["versions"]["torch"]


@pytest.mark.parametrize("words", [(), ("dat",), ("data", "image=3"), ("data", "images=ten"), ("data", "size=9")])
def test_wrong_words_show_the_usage(words):
    done = run(*words)
    assert done.returncode == 2 and "usage:" in done.stderr and "Traceback" not in done.stderr
