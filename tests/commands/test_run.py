"""`run.py`: one word from data to tables, several jobs at once, killed and resumed, one of them failing."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.commands import forked, start
from tests.helpers.results import results
from tests.helpers.small_runs import command, run

SWEEP = ["method=linear,lora", "seed=0,1"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """The results of the sweep as the three scripts make them."""
    root = tmp_path_factory.mktemp("undisturbed")
    for script in ("train.py", "evaluate.py"):
        done = run(script, root, data_root, *SWEEP, "-m")
        assert done.returncode == 0, done.stderr
    assert len(results(root)) == 4
    return root


def test_one_word_searches_too_and_does_nothing_twice(tmp_path, data_root):
    first = run("run.py", tmp_path, data_root, "search.finetune_epochs=2")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("1 job: 1 waiting; about ")
    assert "[1/1] digits glora seed 0: " in first.stdout and "GLoRA" in first.stdout
    (record,) = results(tmp_path).values()
    assert record["comparators"]["untuned"]
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")}
    again = run("run.py", tmp_path, data_root, "search.finetune_epochs=2")
    assert again.returncode == 0 and "1 job: 1 done; about 0 s left" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.safetensors")} == stamps
    assert not list(tmp_path.rglob("failure.json"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_sweep_of_two_at_once_ends_in_the_same_results(tmp_path, data_root, undisturbed, number):
    words = command("run.py", tmp_path, data_root, *SWEEP, "jobs=2")
    output = tmp_path / "output"
    process, deadline = start(words, str(output), str(output)), time.time() + 240
    while process.is_alive() and not list(tmp_path.rglob("resume_*.pt")) and time.time() < deadline:
        time.sleep(0.02)
    assert process.is_alive() and process.pid is not None, output.read_text()
    os.kill(process.pid, number)
    process.join()
    if number == signal.SIGTERM:
        said = output.read_text()
        assert process.exitcode == 143 and "of 4 jobs are done; the same command goes on" in said
        assert re.search(r"epoch \d of 3 (is|and \d+ steps of the next are) kept", said)
    again = run("run.py", tmp_path, data_root, *SWEEP, "jobs=2")
    assert again.returncode == 0, again.stdout + again.stderr
    assert results(tmp_path) == results(undisturbed)
    assert not list(tmp_path.rglob("resume_*")) and not list(tmp_path.rglob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize("machines", [("one", "two"), ("one", "one")])
def test_two_commands_at_one_sweep_do_no_job_twice(tmp_path, data_root, undisturbed, machines):
    """From machines of two names, as far as they can tell; and on one, where a launcher's job awaits its turn."""
    here = len({*machines}) == 1
    launcher = ["hydra/launcher=basic"] if here else []
    both, outputs = [], [tmp_path / "first", tmp_path / "second"]
    for name, output in zip(machines, map(str, outputs), strict=True):
        words = command("run.py", tmp_path / "out", data_root, *SWEEP, *launcher)
        both.append(start(words, output, output, {"GLORA_HOST": name}))
    for process in both:
        process.join()
    said = [output.read_text() for output in outputs]
    assert [process.exitcode for process in both] == [0, 0], said
    assert results(tmp_path / "out") == results(undisturbed)
    # Each training logs its one line on the products; each job ends for both.
    assert sum(text.count("torch.compile off") for text in said) == 4
    if here:
        assert any("; awaited" in text for text in said), said
    else:
        assert all(f"[{n}/4]" in text for text in said for n in (1, 2, 3, 4))


def test_a_job_that_fails_stops_no_other_and_is_listed_with_its_words(tmp_path, data_root):
    sweep = ["method=lora", "optimizer.lr=1e30,0.001", "seed=0,1"]
    done = run("run.py", tmp_path, data_root, *sweep, "jobs=2")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    head, *failed = done.stderr.strip().splitlines()[-3:]
    assert head.startswith("2 of 4 jobs failed")
    assert all(
        line.startswith("error in ") and "optimizer.lr=1e+30" in line and "the loss is" in line for line in failed
    )
    assert len(results(tmp_path)) == 2 and "written:" in done.stdout
    looked = run("run.py", tmp_path, data_root, *sweep, "dry_run=true")
    assert looked.returncode == 0 and looked.stdout.startswith("4 jobs: 2 done, 2 failed; about ")
    lines = [line.split()[0] for line in looked.stdout.splitlines()[2:]]
    assert sorted(lines) == ["done", "done", "failed", "failed"]
    status = run("run.py", tmp_path, data_root, *sweep).stdout
    assert "best on test so far" not in status and len(results(tmp_path)) == 2


def test_status_looks_on_and_changes_nothing(tmp_path, data_root):
    words = command("run.py", tmp_path, data_root, "method=lora")
    looked = run("run.py", tmp_path, data_root, "dry_run=true")
    assert looked.returncode == 0 and not list(tmp_path.iterdir())
    status = forked([words[0], "status", *words[1:]])
    assert status.returncode == 0 and "1 job: 1 waiting" in status.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["jobs=0"], "jobs=0 must be at least 1"),
        (["method=bogus"], "unknown method 'bogus'"),
        (["trainer.epochs=-1", "seed=0,1"], "trainer.epochs=-1 must be at least 1"),
        (["hydra/launcher=joblib", "jobs=2", "-m"], "type one"),
    ],
)
def test_a_mistake_is_said_once_before_anything_begins(tmp_path, data_root, overrides, message):
    done = run("run.py", tmp_path, data_root, *overrides)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count(message) == 1 and not list(tmp_path.rglob("config.json"))
