"""How scripts end: unread (`python evaluate.py | head`), on a full disk, failing in parts, stopped by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner import cli
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.tracking.progress import Progress
from tests.helpers import ROOT

STAGE = "import sys; from runner.cli import main; main(lambda c: {})"
OVERRIDES = ["dataset=digits", "hydra.run.dir=.", "hydra.output_subdir=null"]
PRINTS = [sys.executable, "-c", STAGE.format("print('row ' * 50000)"), *OVERRIDES]
LOGS = [sys.executable, "-c", STAGE.format(
    "[__import__('logging').getLogger('glora').info('row ' * 9000) for _ in range(9)] and sys.stderr.write('went on')"
), *OVERRIDES]  # fmt: skip


def unread(command: list[str]) -> tuple[int, str]:
    """Exit status and standard error of a command whose output nobody reads."""
    process = subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout and process.stderr
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    return process.wait(), errors


@pytest.mark.slow
@pytest.mark.parametrize("command", [PRINTS, [sys.executable, "prepare.py"]], ids=["a stage", "prepare.py"])
def test_a_script_ends_quietly(command: list[str]) -> None:
    assert unread(command) == (1, "")


@pytest.mark.slow
def test_a_run_goes_on_when_only_its_log_is_not_read() -> None:
    assert unread(LOGS) == (0, "went on")


@pytest.mark.slow
def test_what_a_terminal_cannot_show_is_spelled(tmp_path: Path) -> None:
    """Of what a stage prints, and of what was typed."""
    stage = [sys.executable, "-c", STAGE.format("print('é 1 ± 2')"), *OVERRIDES]
    prepare = [sys.executable, "prepare.py", "dataset=cifar100", "download=no", f"data_root={tmp_path / 'é'}"]
    for command, status, expected in ((stage, 0, "\\xe9 1 +- 2\n"), (prepare, 1, "/\\xe9/raw/cifar100")):
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
        assert done.returncode == status and expected in done.stdout.decode("ascii"), done.stderr


@pytest.mark.slow
def test_a_full_disk_under_the_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(PRINTS, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and "standard output: No space left on device" in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


Sweep = Callable[[Callable[[Run], object], str], tuple[int, list[object], str]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Sweep:
    """Run a stage for several tasks in this process: exit status, what `finish` got, and standard error."""

    def run(stage: Callable[[Run], object], tasks: str) -> tuple[int, list[object], str]:
        words = ["-m", f"dataset={tasks}", "trainer=mini", "ranks=[8,4]", f"output_root={tmp_path}"]
        monkeypatch.setattr(sys, "argv", ["train.py", *words])
        measured: list[object] = []
        with pytest.raises(SystemExit) as ended:
            cli.main(stage, lambda values: measured.extend(values))
        assert isinstance(ended.value.code, int)
        return ended.value.code, measured, capfd.readouterr().err

    return run


def test_no_failure_of_a_sweep_hides_another_or_what_was_measured(sweep: Sweep) -> None:
    def stage(run: Run) -> str:
        if run.task.id == "textures":
            raise KeyError("a bug")
        if run.task.id == "shapes_count":
            raise ConfigError("a mistake\nand another")
        if run.task.id == "shapes_distance":
            bytearray(10**15)
        return run.task.id

    status, measured, said = sweep(stage, "textures,shapes_count,digits,shapes_distance")
    assert status == 3 and measured == ["digits"]
    assert said.count("Traceback") == 1 and "in stage" in said
    *_, head, bug, mistake, memory = said.splitlines()
    assert head.startswith("3 of 4 jobs failed")
    for line, task, what in (
        (bug, "textures", "KeyError: 'a bug'"),
        (mistake, "shapes_count", "a mistake; and another"),
        (memory, "shapes_distance", "trainer.batch_size"),
    ):
        assert line.startswith(f"error in dataset={task} trainer=mini 'ranks=[8,4]' ") and what in line


def test_a_signal_says_where_a_sweep_stands_and_starts_nothing_more(sweep: Sweep, tmp_path: Path) -> None:
    def stage(run: Run) -> str:
        with Progress("", 6, 2) as progress:
            progress.step("")
            if run.task.id == "textures":
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)
        return run.task.id

    status, measured, said = sweep(stage, "digits,textures,shapes_count")
    assert status == 143 and measured == []
    first, head, *jobs = said.splitlines()
    assert first.startswith(f"stopped by SIGTERM: {tmp_path}/textures/")
    assert first.endswith(": epoch 3 of 6 is kept; the same command goes on from there")
    assert head.startswith("1 of 3 jobs are done")
    assert [job.partition(" trainer")[0] for job in jobs] == [
        "done: dataset=digits",
        "stopped in dataset=textures",
        "not started: dataset=shapes_count",
    ]


def test_an_output_root_that_is_a_file_is_one_line_and_the_list(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "sweeps").write_text("")
    status, _, said = sweep(lambda run: None, "digits,textures")
    assert status == 2 and f"{tmp_path}/sweeps" in said and "Traceback" not in said
    assert [line.partition(":")[0] for line in said.splitlines()[-2:]] == ["not started"] * 2


KILLED = """
import os, signal
from runner.cli import main
def stage(run):
    if run.task.id == "textures":
        os.kill(os.getpid(), signal.SIGKILL)
    return run.task.id
main(stage, print)
"""


@pytest.mark.slow
def test_a_process_of_a_launcher_that_is_killed_is_named_by_its_job(tmp_path: Path) -> None:
    words = ["-m", "dataset=digits,textures", "trainer=mini", f"output_root={tmp_path}"]
    command = [sys.executable, "-c", KILLED, *words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "was killed" in done.stderr and "trainer.batch_size" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error in dataset=textures")]
    assert "without a word" in line
