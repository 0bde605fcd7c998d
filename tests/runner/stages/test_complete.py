"""Finished means complete and finite: what a kill left undone is made, what it left behind goes, damage is named."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from data import DataError
from glora.state import digest
from runner.config.errors import ConfigError
from runner.rundir.checkpoints import save_checkpoint
from runner.rundir.weights import write_weights
from runner.stages import train as training
from runner.stages.evaluate import evaluate as measure
from runner.stages.export import export
from runner.stages.search import search
from runner.stages.train import train
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL, only

OVERRIDES = [*SMALL, "trainer.epochs=3", "search.finetune_epochs=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The overrides of a run that is trained, searched, tuned and evaluated, and where it lies."""
    root = tmp_path_factory.mktemp("finished")
    overrides = [*OVERRIDES, f"data_root={root / 'data'}"]
    c = resolved(*overrides, f"output_root={root / 'runs'}")
    train(c)
    search(c)
    measure(c)
    return overrides, root / "runs"


def contents(root: Path) -> dict[str, bytes]:
    """Every file but logs and pictures with its content."""
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and p.suffix not in (".log", ".png") and not p.name.startswith(".lease-")
    }


def test_each_stage_makes_what_is_missing_and_removes_what_was_left(copied, monkeypatch):
    overrides, runs = copied
    c, before = resolved(*overrides), contents(runs)
    pictures = sorted(runs.rglob("*.png"))
    assert len(pictures) == 7  # training, candidates, options, sizes, tuning, confusion, classes
    for picture in pictures:
        picture.unlink()
    only(runs, "evaluate/summary.json").unlink()
    tuned = only(runs, "tuned")
    for name in ("resume_train800.pt", "resume_train800.pt.previous", "weights.safetensors.part"):
        (c.directory / name).write_bytes(b"x")
    for name in ("resume_train800.pt", "plots/.train_train800.png.12.part"):
        (tuned / name).write_bytes(b"x")
    monkeypatch.setattr(training, "train_phase", None)  # nothing trains
    train(c)
    search(c)
    measure(c)
    assert sorted(runs.rglob("*.png")) == pictures
    assert contents(runs) == before


def test_a_summary_that_is_gone_is_named_beside_its_weights(copied):
    overrides, runs = copied
    c = resolved(*overrides)
    (c.directory / "train_train800.json").unlink()
    with pytest.raises(ConfigError, match=r"train_train800\.json is missing; delete .*weights\.safetensors"):
        train(c)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("stage", [train, search, measure, export])
def test_a_flipped_bit_in_the_weights_is_named_by_every_stage(copied, stage):
    overrides, _ = copied
    c = resolved(*overrides)
    flip(c.directory / "weights.safetensors")
    assert c.search is not None
    for name in ("result.json", "best.json", "tuned/weights.safetensors") if stage in (search, measure) else ():
        if stage is search or name == "result.json":
            (c.search.directory / name).unlink()
    with pytest.raises(ConfigError, match=r"weights\.safetensors is damaged .*delete it and train"):
        stage(c)


@pytest.mark.parametrize("kind", ["integers", "another dtype", "another shape"])
def test_old_weights_that_do_not_fit_are_named(copied, kind):
    overrides, _ = copied
    c = resolved(*overrides)
    path = c.directory / "weights.safetensors"
    change = {"integers": torch.Tensor.int, "another dtype": torch.Tensor.double, "another shape": lambda t: t[None]}
    save_file({n: change[kind](t).contiguous() for n, t in load_file(path).items()}, path)
    with pytest.raises(ConfigError, match=r"weights\.safetensors.* and train with the same overrides again"):
        export(c)


def test_the_result_and_the_export_say_which_weights_they_are_of(copied):
    overrides, runs = copied
    c = resolved(*overrides)
    told = json.loads(only(runs, "result.json").read_text())["trained"]
    assert told == {str(p.relative_to(c.directory)): digest(load_file(p)) for p in runs.rglob("weights.safetensors")}
    assert len(told) == 2
    folder = export(c)
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert digest(load_file(folder / "model.safetensors")).encode() in (folder / "model.safetensors").read_bytes()


def test_a_diverged_run_is_not_finished(copied, monkeypatch):
    overrides, runs = copied
    c = resolved(*overrides, "optimizer.lr=1e30", "trainer.max_steps=1", "trainer.epochs=1")
    with pytest.raises(FloatingPointError, match="lower optimizer.lr"):
        train(c)
    assert not list(c.directory.glob("*.safetensors")) and not list(c.directory.glob("train_*.json"))


@pytest.mark.parametrize("stage", [search, measure, export])
def test_weights_that_give_no_finite_logits_are_neither_measured_nor_exported(copied, stage):
    overrides, _ = copied
    c = resolved(*overrides, "search.finetune_epochs=0")  # another search directory, not searched yet
    old = resolved(*overrides)
    assert c.search is not None and old.search is not None
    if stage is not search:
        shutil.copytree(old.search.directory, c.search.directory)
        (c.search.directory / "result.json").unlink()
    path = c.directory / "weights.safetensors"
    write_weights(path, {n: torch.full_like(t, 3e38) for n, t in load_file(path).items()})
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        stage(c)
    assert not list(c.search.directory.glob("result.json")) and not list(c.search.directory.rglob("*.safetensors.part"))


def test_a_winner_that_no_search_finds_needs_finite_logits_too(copied):
    overrides, _ = copied
    c = resolved(*overrides, "search.winner=largest")
    assert c.search is not None
    path = c.directory / "weights.safetensors"
    write_weights(path, {n: torch.full_like(t, 3e38) for n, t in load_file(path).items()})
    with pytest.raises(FloatingPointError, match="search.winner=largest has logits that are NaN or infinite"):
        search(c)
    assert not (c.search.directory / "best.json").exists()


def test_pipes_and_links_in_a_run_folder_are_refused_or_replaced(copied):
    overrides, runs = copied
    c = resolved(*overrides)
    outside = runs.parent / "precious"
    outside.write_text("mine")
    for name in ("config.json", "metrics.jsonl", "train.log"):
        (c.directory / name).unlink()
        (c.directory / name).symlink_to(outside)
    with pytest.raises(DataError, match=r"train\.log is a link"):
        train(c)
    (c.directory / "train.log").unlink()
    train(c)
    assert outside.read_text() == "mine" and not (c.directory / "config.json").is_symlink()


@pytest.fixture
def stopped(copied, monkeypatch) -> tuple[list[str], Path, bytes]:
    """The overrides of a run that was killed after its second epoch, its folder, and the weights it would have had."""
    overrides, _ = copied
    c = resolved(*overrides)
    whole = (c.directory / "weights.safetensors").read_bytes()
    shutil.rmtree(c.directory)
    real = training.Resumable.save

    def save(kept: training.Resumable) -> None:
        real(kept)
        if kept.trainer.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(training.Resumable, "save", save)
        train(c)
    return overrides, c.directory, whole


def spoil(state: dict, how: str) -> None:
    trainer = state["trainer"]
    match how:
        case "epoch":
            trainer["epoch"] = 99
        case "step":
            trainer["step"] += 1
        case "NaN":
            next(iter(trainer["parameters"].values())).fill_(torch.nan)
        case "moments":
            trainer["optimizer"]["state"][0]["exp_avg"].fill_(torch.inf)
        case "shape":
            trainer["optimizer"]["state"][0]["exp_avg"] = torch.zeros(1)
        case "decay":
            trainer["optimizer"]["param_groups"][0]["weight_decay"] = 0.5
        case "parameters":
            del trainer["parameters"]
        case "configuration":
            state["made_for"] = "0" * 64
        case "rows":
            state["rows"] = state["rows"][1:]


@pytest.mark.parametrize(
    "how", ["epoch", "step", "NaN", "moments", "shape", "decay", "parameters", "configuration", "rows"]
)
def test_a_resume_file_that_does_not_fit_gives_way_to_the_one_before_it(stopped, how, caplog):
    overrides, folder, whole = stopped
    resume = folder / "resume_train800.pt"
    before = (folder / "resume_train800.pt.previous").read_bytes()
    state = torch.load(resume, weights_only=True)
    spoil(state, how)
    save_checkpoint(resume, state)  # with a digest of its own
    (folder / "resume_train800.pt.previous").write_bytes(before)
    with caplog.at_level(logging.INFO):
        train(resolved(*overrides))
    assert "resume_train800.pt cannot be continued" in caplog.text and "resuming after epoch 1" in caplog.text
    assert (folder / "weights.safetensors").read_bytes() == whole


def test_where_both_resume_files_are_damaged_the_training_begins_anew(stopped, caplog):
    overrides, folder, whole = stopped
    for resume in folder.glob("resume_*"):
        flip(resume)
    with caplog.at_level(logging.INFO):
        train(resolved(*overrides))
    assert "beginning anew" in caplog.text and "resuming after" not in caplog.text
    assert (folder / "weights.safetensors").read_bytes() == whole
