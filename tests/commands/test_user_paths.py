"""Paths that users give by hand: "~" is the home folder, and who has none is asked for a place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from data import DataError
from runner import quickstart
from runner.config.errors import ConfigError
from runner.config.overrides import quoted
from runner.config.resolve import ASSETS
from tests.helpers import ROOT
from tests.helpers.commands import forked
from tests.helpers.composing import resolved

MINI = ["dataset=digits", "backbone=vit_micro", "trainer=mini", "trainer.max_steps=2", "trainer.batch_size=16",
        "method=linear", "logger.wandb=disabled"]  # fmt: skip


def test_the_home_folder_through_the_command_line(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    shutil.copy(ASSETS / "vit_micro.safetensors", tmp_path / "w.safetensors")
    typed = [*MINI, "backbone.weights=~/w.safetensors", "data_root=~/data"]
    for command in (["train.py", "-m", *typed, "output_root=~/runs"],
                    ["evaluate.py", *typed, "output_root='~/runs'"]):  # fmt: skip
        done = forked(command, environment)
        assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} >= {"runs", "data"}
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"digits", "sweeps", "tables"}
    assert not (ROOT / "~").exists()
    done = forked(["train.py", "-m", *typed, "output_root=~nobody_at_all/runs"])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "output_root=~nobody_at_all/runs: no home folder is known for this ~; write the whole path" in done.stderr


def test_every_path_of_the_config_knows_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "list.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(200)))
    for i in range(200):
        (tmp_path / "set" / f"{i}.png").touch()
    paths = {"dataset.root": "~/set", "backbone.weights": "~/w", "data_root": "~/d", "output_root": "~/o"}
    quoted_paths = {key: f"{key}='{path}'" for key, path in paths.items()}
    run = resolved("dataset=folder", *quoted_paths.values())
    assert (run.backbone.weights, run.data.root) == (tmp_path / "w", tmp_path / "d")
    assert run.data.own.rows["test"][0][0].parent == tmp_path / "set"
    assert run.directory.parent.parent == run.output_root == tmp_path / "o"
    for key in paths:
        with pytest.raises((ConfigError, DataError), match=f"{key}=~nobody_at_all/x: no home folder is known"):
            resolved("dataset=folder", *(quoted_paths | {key: f"{key}='~nobody_at_all/x'"}).values())


def test_what_hydra_would_not_read_is_quoted() -> None:
    assert quoted("dataset.root=~/a,~/b c,/d,/é") == "dataset.root='~/a','~/b c',/d,'/é'"
    for arg in ("output_root='~/a,~/b'", "a=/x/~y", "~method", "seed=1", "-m", "--config-dir=~/x", "a=[~/x]"):
        assert quoted(arg) == arg


@pytest.mark.slow
def test_every_script_knows_the_home_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*command: str) -> CompletedProcess[str]:
        return forked(list(command), {"HOME": str(tmp_path)})

    made = run("prepare.py", "dataset=textures", "data_root=~/d")
    assert made.returncode == 0 and (tmp_path / "d" / "mini").is_dir(), made.stderr
    missing = run("prepare.py", "dataset=dtd", "data_root=~/d", "source=noah", "source_root=~/n")
    assert missing.returncode == 1 and f"missing {tmp_path}/n/dtd" in missing.stderr
    measured = run("benchmark.py", "data", "images=136", "size=32x32", "repeats=1", "json=~/j")
    assert measured.returncode == 0 and (tmp_path / "j").is_file(), measured.stderr
    for command, key in ((["prepare.py"], "data_root"), (["benchmark.py", "growth"], "plot")):
        wrong = run(*command, f"{key}=~nobody_at_all/x")
        assert wrong.returncode == 2 and f"error: {key}=~nobody_at_all/x: no home folder" in wrong.stderr
    assert quickstart.main(["output_root=~nobody_at_all/x"]) == 2
    assert "output_root=~nobody_at_all/x: no home folder" in capsys.readouterr().err


HOMELESS = """
import os, pwd, runpy, sys
os.environ.pop("HOME", None)
def nobody(uid): raise KeyError(uid)
pwd.getpwuid = nobody
sys.argv = sys.argv[1:]
sys.path.insert(0, "")
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("command", "status"), [("prepare.py", 2), ("train.py dataset=digits trainer=mini", 2)])
def test_a_user_without_a_home_is_asked_for_a_place(tmp_path: Path, command: str, status: int) -> None:
    """As in a container that runs under a user id without an account."""
    environment = {k: v for k, v in os.environ.items() if k != "GLORA_DATA"}
    args = [sys.executable, "-c", HOMELESS, *command.split()]
    if command != "prepare.py":
        args.append(f"output_root={tmp_path}")
    done = subprocess.run(args, cwd=ROOT, env=environment, capture_output=True, text=True)
    (line,) = done.stderr.splitlines()
    assert done.returncode == status and "set GLORA_DATA=/path or add data_root=/path" in line
