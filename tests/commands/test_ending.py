"""Scripts whose reader has seen enough, as in `python evaluate.py | head`, or whose terminal is not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("command", [PRINTS, [sys.executable, "prepare.py"]], ids=["a stage", "prepare.py"])
def test_a_script_ends_quietly(command: list[str]) -> None:
    assert unread(command) == (1, "")


def test_a_run_goes_on_when_only_its_log_is_not_read() -> None:
    assert unread(LOGS) == (0, "went on")


def test_what_a_terminal_cannot_show_is_spelled(tmp_path: Path) -> None:
    """Of what a stage prints, and of what was typed."""
    stage = [sys.executable, "-c", STAGE.format("print('é 1 ± 2')"), *OVERRIDES]
    prepare = [sys.executable, "prepare.py", "dataset=cifar100", "download=no", f"data_root={tmp_path / 'é'}"]
    for command, status, expected in ((stage, 0, "\\xe9 1 +- 2\n"), (prepare, 1, "/\\xe9/raw/cifar100")):
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
        assert done.returncode == status and expected in done.stdout.decode("ascii"), done.stderr
