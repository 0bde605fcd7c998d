"""The attack on the framework, in small, and that it sees what it is to see."""

import errno
import json
import os
import random
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.commands import forked
from tools.torture import hostile_files, hostile_overrides, inputs, points
from tools.torture.children import run, spread
from tools.torture.fingerprint import difference, fingerprint, not_finite
from tools.torture.verdicts import KINDS, Verdict, failures, markdown, of_output
from tools.torture.watch import full_from, kill_at

TOOL = "tools/torture/__main__.py"


def attack(tmp_path, *words):
    """The tool in small, in a process that has only imported: its record and what it printed."""
    out = tmp_path / "torture.json"
    done = forked([TOOL, *words, "--jobs", "2", f"--out={out}"])
    assert out.exists(), done.stderr
    return json.loads(out.read_text()), done


@pytest.mark.parametrize("part", [["points", "--of", "train", "--points=5"], ["inputs", "--inputs=500", "--dear=40"]])
def test_nothing_fails_in_a_part_of_the_attack(tmp_path, part):
    record, done = attack(tmp_path, *part)
    assert record["failures"] == [] and done.returncode == 0, done.stdout
    assert int(record["counts"][-1]["cases"]) == (5 if "points" in part else 500)


def test_a_seed_says_what_is_attacked_and_a_point_where():
    assert len({tuple(hostile_overrides.words(seed)) for seed in (1, 2, 3, 1, 2, 3)}) == 3
    assert {inputs.group_of(seed) for seed in range(500)} == set(inputs.SHARES)
    few = inputs.names(7, 300, dear=20)
    assert few[:20] == inputs.names(7, 20) and len(set(few)) == 300
    assert sum(inputs.group_of(int(seed)) not in inputs.CHEAP for seed in few) == 20
    assert points.parsed("search@17/KILL") == ("search", "17", "KILL")
    with pytest.raises(ValueError, match="search@17/KILL"):
        points.parsed("nothing@1/KILL")


@pytest.mark.parametrize("words", [["points", "--of", "nothing"], ["points", "--only", "nothing@1/KILL"]])
def test_an_unknown_stage_is_one_line_with_those_there_are(words):
    done = forked([TOOL, *words])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "no stage nothing; the stages are train, search" in done.stderr


def write(folder, name="file"):
    def task():
        (folder / "first").write_text("1")
        (folder / "first").replace(folder / name)

    return task


def test_a_child_is_ended_right_before_a_change(tmp_path):
    for number, left in ((1, set()), (2, {"first"}), (3, {"file"})):
        folder = tmp_path / str(number)
        folder.mkdir()
        ended = run(write(folder), folder, before=kill_at(number, "KILL"))
        assert {p.name for p in folder.iterdir() if p.is_file()} == left
        assert (ended.status, ended.changes) == ((0, 2) if number == 3 else (-9, None))


def test_a_folder_on_a_tmpfs_is_watched_and_the_others_there_are_not():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        folder, other = Path(name, "in"), Path(name, "out")
        folder.mkdir()
        other.mkdir()
        assert (ended := run(write(folder), folder)).changes == 2 and not ended.outside
        assert (ended := run(write(other), folder)).changes == 0 and not ended.outside


def test_a_change_outside_is_refused_and_told(tmp_path):
    victim = tmp_path / "victim"
    for folder, name in (("direct", "../victim"), ("linked", "link")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "link").symlink_to(victim)
        ended = run(partial(Path(name).write_text, "x"), tmp_path / folder)
        assert ended.kind()[0] == "outside" and "victim" in ended.kind()[1] + os.readlink(tmp_path / folder / "link")
        assert not victim.exists()


@pytest.mark.parametrize("path", ["../file/a/b", "../file", "../loop/b", "../victim/b"])
def test_a_folder_below_a_file_is_the_systems_to_refuse(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "child").mkdir()
    ended = run(partial(os.makedirs, path), tmp_path / "child")
    assert ended.kind()[0] == ("outside" if "victim" in path else "traceback") and ended.changes == 0


def test_what_ends_how_is_told_apart(tmp_path):
    def fails():
        raise ValueError("x")

    def refuses():
        print("error: a line")
        raise SystemExit(2)

    for task, kind in ((fails, "traceback"), (refuses, "named"), (lambda: time.sleep(30), "hang"), (int, "identical"),
                       (lambda: os._exit(3), "traceback"), (lambda: os._exit(2), "traceback")):  # fmt: skip
        assert run(task, tmp_path, limit=1).kind()[0] == kind
    assert of_output(0, "Traceback (most recent call last):\nKeyError: 'a'") == ("traceback", "KeyError: 'a'")


def test_a_full_disk_takes_no_new_file_and_lets_old_ones_go(tmp_path):
    (tmp_path / "old").write_text("x")

    def task():
        (tmp_path / "old").unlink()
        with pytest.raises(OSError, match="No space left") as caught:
            (tmp_path / "new").write_text("x")
        assert caught.value.errno == errno.ENOSPC

    assert run(task, tmp_path, before=full_from(1)).status == 0 and not (tmp_path / "old").exists()


def results(root):
    root.mkdir()
    save_file({"a": torch.arange(6.0)}, root / "weights.safetensors")
    (root / "result.json").write_text(json.dumps({"test_accuracy": 0.5, "seconds": time.time(), "rows": [{"lr": 1}]}))
    (root / "metrics.csv").write_text("epoch,loss,seconds\n1,0.5,3\n")
    (root / "train.log").write_text(str(time.time()))
    return fingerprint(root)


def test_results_are_compared_but_for_times_and_logs(tmp_path):
    one, two = results(tmp_path / "one"), results(tmp_path / "two")
    assert one == two and difference(one, two) is None
    (tmp_path / "two" / "result.json").write_text(json.dumps({"test_accuracy": 0.51, "rows": [{"lr": 1}]}))
    assert difference(fingerprint(tmp_path / "two"), one) == "result.json is another"
    (tmp_path / "one" / "weights.safetensors.part").write_text("")
    assert difference(fingerprint(tmp_path / "one"), two) == "weights.safetensors.part stays behind"
    (tmp_path / "one" / "metrics.csv").unlink()
    assert difference(fingerprint(tmp_path / "one"), one) == "metrics.csv is missing"
    assert not_finite(tmp_path / "two") is None
    weights = load_file(tmp_path / "two" / "weights.safetensors")
    save_file({k: v * float("nan") for k, v in weights.items()}, tmp_path / "two" / "weights.safetensors")
    assert "not finite" in not_finite(tmp_path / "two")


def test_a_record_that_might_be_true_is_told_from_one_that_cannot():
    true = json.dumps({"accuracy": 0.84, "rows": [1, 2], "label": "GLoRA"}).encode()
    assert hostile_files.alike(true, true.replace(b"0.84", b"0.85"))
    for old, new in ((b"0.84", b"null"), (b"0.84", b"NaN "), (b"[1, 2]", b"[1]"), (b"0.84", b"-1.0"), (b"}", b"]"),
                     (b'"GLoRA"', b"12345"), (b"accuracy", b"accurazy")):  # fmt: skip
        assert not hostile_files.alike(true, true.replace(old, new)), new


def test_what_was_done_can_be_printed():
    said = [hostile_files.damage_document(b'{"a": 1}', random.Random(seed))[1] for seed in range(200)]
    assert any(r"becomes '\ud800'" in line for line in said)
    assert all(line.encode() for line in said)  # half a character has no UTF-8


def verdict(name):
    if name == "6":
        raise KeyError(name)
    return Verdict("points", "train", name, KINDS[int(name)], "", "")


def test_verdicts_are_counted_and_come_back_from_every_process():
    found = list(spread("points", [str(i) for i in range(7)], verdict, 3))
    assert sorted(v.name for v in found) == [str(i) for i in range(7)]
    assert len(failures(found)) == 5 and found[-1].seconds >= 0
    assert next(v.rerun for v in found if v.name == "6") == "python -m tools.torture points --only 6"
    assert markdown(found).splitlines()[-1] == "| all |  | 7 | 1 | 1 | 2 | 1 | 1 | 1 |"
