"""Checkpoints inside an epoch: after a signal, where epochs are long, and never of what diverged."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from glora.train import Trainer
from runner.config.run import Run
from runner.signals import Stopped, stoppable
from runner.stages import resume
from runner.stages import train as training
from runner.stages.train import train
from runner.tracking import standing
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def small(data: Path, root: Path) -> Run:
    return resolved(*SMALL, "trainer.epochs=2", f"data_root={data}", f"output_root={root}")


def ends(directory: Path) -> tuple[bytes, list[Any]]:
    """What a training leaves: the weights' bytes, and every figure but times and memory."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    summary = json.loads((directory / "train_train800.json").read_text())
    rows = [json.loads(line) for line in lines] + summary["rows"]
    figures = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return (directory / "weights.safetensors").read_bytes(), [summary["steps"], summary["data_hash"], *figures]


class AtStep:
    """Does something in place of a checkpoint's question, at one step of the training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> None:
        original = resume.Resumable._after_step
        self.done = False

        def after_step(kept: resume.Resumable, stop: Stopped | None, keep_last: bool) -> None:
            original(kept, stop, keep_last)
            if kept.trainer.step == step and not self.done:
                self.done = True
                act()

        monkeypatch.setattr(resume.Resumable, "_after_step", after_step)


def test_a_signal_inside_an_epoch_keeps_its_steps(data, tmp_path, monkeypatch, caplog):
    whole, cut = small(data, tmp_path / "whole"), small(data, tmp_path / "cut")
    train(whole)
    AtStep(monkeypatch, 17, lambda: os.kill(os.getpid(), signal.SIGTERM))
    standing.begin(cut.directory)
    with pytest.raises(Stopped), stoppable():
        train(cut)
    assert "epoch 1 of 2 and 6 steps of the next are kept" in str(standing.current())
    with caplog.at_level(logging.INFO, "glora"):
        train(cut)
    assert "resuming after epoch 1 and 6 steps of the next" in caplog.text
    assert ends(cut.directory) == ends(whole.directory)


@pytest.mark.parametrize("grace", [10.0, 0.1])
def test_a_signal_during_the_evaluation_behind_an_epoch_costs_no_step(data, tmp_path, monkeypatch, caplog, grace):
    """It waits for a short one; a long one is broken off, behind the last step of its epoch."""
    monkeypatch.setattr("runner.signals.GRACE_SECONDS", grace)
    whole, cut = small(data, tmp_path / "whole"), small(data, tmp_path / "cut")
    train(whole)
    original = training.subnet_accuracies

    def accuracies(*args: Any) -> dict[str, float]:
        found = original(*args)
        os.kill(os.getpid(), signal.SIGTERM)
        if grace < 1:
            signal.pause()  # for the alarm
        return found

    with monkeypatch.context() as m, pytest.raises(Stopped), stoppable():
        m.setattr(training, "subnet_accuracies", accuracies)
        train(cut)
    with caplog.at_level(logging.INFO, "glora"):
        train(cut)
    assert ("epoch 1 and 12 steps of the next" if grace < 1 else "resuming after epoch 2") in caplog.text
    assert ends(cut.directory) == ends(whole.directory)


def test_a_second_signal_waits_for_nothing(data, tmp_path, monkeypatch):
    run = small(data, tmp_path)
    seen: list[int] = []

    def twice() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(1)  # the first one waits
        os.kill(os.getpid(), signal.SIGTERM)
        seen.append(2)

    AtStep(monkeypatch, 3, twice)
    with pytest.raises(Stopped), stoppable():
        train(run)
    assert seen == [1]
    assert not (run.directory / "resume_train800.pt").exists()


def test_a_step_without_end_is_waited_for_no_longer_than_clusters_wait(data, tmp_path, monkeypatch):
    monkeypatch.setattr("runner.signals.GRACE_SECONDS", 0.1)
    before = signal.getsignal(signal.SIGALRM)

    def stuck() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()  # for the alarm
        raise AssertionError("nothing ended the step")

    AtStep(monkeypatch, 3, stuck)
    with pytest.raises(Stopped) as found, stoppable():
        train(small(data, tmp_path))
    assert found.value.number == signal.SIGTERM
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_long_epoch_is_kept_as_it_goes(data, tmp_path, monkeypatch):
    """What dies without a word (SIGKILL, here any error) goes on from the last save inside the epoch."""
    whole, cut = small(data, tmp_path / "whole"), small(data, tmp_path / "cut")
    train(whole)
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVES_SHARE", float("inf"))

    def die() -> None:
        raise ZeroDivisionError

    AtStep(monkeypatch, 15, die)
    with pytest.raises(ZeroDivisionError):
        train(cut)
    kept = torch.load(cut.directory / "resume_train800.pt", weights_only=True)
    assert kept["trainer"]["step"] == 15 and kept["seconds"] > 0
    train(cut)
    assert ends(cut.directory) == ends(whole.directory)


def test_what_diverged_is_never_kept(data, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(resume, "SAVES_SHARE", float("inf"))
    run = small(data, tmp_path)

    def explode(trainer: Trainer) -> None:
        with torch.no_grad():
            for parameter in trainer.parameters.values():
                parameter.fill_(float("nan"))

    original = Trainer.check_finite

    def check_finite(trainer: Trainer) -> None:
        if trainer.step == 3:
            explode(trainer)
        original(trainer)

    monkeypatch.setattr(Trainer, "check_finite", check_finite)
    with pytest.raises(FloatingPointError, match="weights are not finite after step 3"):
        train(run)
    assert torch.load(run.directory / "resume_train800.pt", weights_only=True)["trainer"]["step"] == 2
