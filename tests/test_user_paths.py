"""Paths and files that users give by hand: "~" is the home folder, an editor's mark before UTF-8 is passed over."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from commands import ROOT, forked
from composing import resolved

import benchmark
import prepare
from data import DataError
from glora.space import LayerSpec, SearchSpace
from runner import quickstart
from runner.cli import quote_tildes
from runner.config.errors import ConfigError
from runner.config.resolve import ASSETS
from runner.rundir.files import read_json, read_subnet

MINI = ["dataset=digits", "backbone=vit_micro", "trainer=mini", "trainer.max_steps=2", "trainer.batch_size=16",
        "method=linear", "logger.wandb=disabled"]  # fmt: skip


def test_the_home_folder_through_the_command_line(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    shutil.copy(ASSETS / "vit_micro.safetensors", tmp_path / "w.safetensors")
    words = [*MINI, "backbone.weights=~/w.safetensors", "data_root=~/data"]
    for command in (["train.py", "-m", *words, "output_root=~/runs"],
                    ["evaluate.py", *words, "output_root='~/runs'"]):  # fmt: skip
        done = forked(command, home)
        assert done.returncode == 0, done.stderr
    assert {p.name for p in tmp_path.iterdir()} >= {"runs", "data"}
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"digits", "sweeps", "tables"}
    assert not (ROOT / "~").exists()
    done = forked(["train.py", "-m", *words, "output_root=~nobody_at_all/runs"])
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "output_root=~nobody_at_all/runs: no home folder is known for this ~; write the whole path" in done.stderr


def test_every_path_of_the_config_knows_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "list.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(200)))
    for i in range(200):
        (tmp_path / "set" / f"{i}.png").touch()
    paths = {"dataset.root": "~/set", "backbone.weights": "~/w", "data_root": "~/d", "output_root": "~/o"}
    words = {key: f"{key}='{path}'" for key, path in paths.items()}
    run = resolved("dataset=folder", *words.values())
    assert (run.backbone.weights, run.data.root) == (tmp_path / "w", tmp_path / "d")
    assert run.data.own.rows["test"][0][0].parent == tmp_path / "set"
    assert run.directory.parent.parent == run.output_root == tmp_path / "o"
    for key in paths:
        with pytest.raises((ConfigError, DataError), match=f"{key}=~nobody_at_all/x: no home folder is known"):
            resolved("dataset=folder", *(words | {key: f"{key}='~nobody_at_all/x'"}).values())


def test_words_with_a_tilde_are_quoted_for_hydra() -> None:
    assert quote_tildes("dataset.root=~/a,~/b c,/d") == "dataset.root='~/a','~/b c',/d"
    for word in ("output_root='~/a,~/b'", "a=/x/~y", "~method", "seed=1", "-m", "--config-dir=~/x", "a=[~/x]"):
        assert quote_tildes(word) == word


def test_scripts_of_their_own_words_know_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert prepare.main(["dataset=textures", "data_root=~/d"]) == 0 and (tmp_path / "d" / "mini").is_dir()
    assert prepare.main(["dataset=dtd", "data_root=~/d", "source=noah", "source_root=~/n"]) == 1
    assert f"missing {tmp_path}/n/dtd" in capsys.readouterr().err
    assert benchmark.parse(["growth", "json=~/j", "plot=~/p"])[1]["json"] == str(tmp_path / "j")
    for main, key in ((prepare.main, "data_root"), (quickstart.main, "output_root")):
        assert main([f"{key}=~nobody_at_all/x"]) and f"{key}=~nobody_at_all/x: no home" in capsys.readouterr().err
    with pytest.raises(benchmark.UsageError, match="json=~nobody_at_all/x: no home folder"):
        benchmark.parse(["data", "json=~nobody_at_all/x"])


def test_json_files_may_begin_with_an_editors_mark(tmp_path: Path) -> None:
    def marked(path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8-sig")

    marked(tmp_path / "result.json", '{"val": "Zürich"}')
    assert read_json(tmp_path / "result.json", "val") == {"val": "Zürich"}
    space = SearchSpace((LayerSpec("fc", 8, 8),), (2,))
    marked(tmp_path / "subnet_a.json", space.to_json(space.largest))
    assert read_subnet(space, tmp_path, "a") == space.largest
