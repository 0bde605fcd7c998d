"""The time a run needs, by the images that its stages see."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.sweep.hours import _seconds
from tests.helpers.composing import resolved


def seconds(root: Path, *overrides: str, train: float = 0.0, evaluate: float = 0.0) -> float:
    """Of a run on digits: 800 images train, 200 select, 797 are test."""
    run = resolved("dataset=digits", "trainer=mini", "search=mini", f"output_root={root}", *overrides)
    return _seconds(run, train, evaluate, done=0.0)


@pytest.mark.parametrize(
    ("overrides", "models"),
    [
        ([], 20 + 2),  # the largest, and the winner of random search
        (["search.random_subnets=0"], 2),
        (["search.random_subnets=5"], 5 + 2),
        (["search.winner=largest"], 20 + 1),
        (["method=noah"], 0),
        (["method=noah", "search.random_subnets=5"], 0),
    ],
)
def test_an_evaluation_sees_the_test_images_with_every_model(tmp_path: Path, overrides: list[str], models: int) -> None:
    candidates = 1 if "search.winner=largest" in overrides else 2 * 8 * 25
    assert seconds(tmp_path, *overrides, evaluate=1.0) == 200 * candidates + 797 * (1 + models)


def test_training_counts_every_epoch_of_supernet_and_winner(tmp_path: Path) -> None:
    plain = seconds(tmp_path, "trainer.epochs=7", train=1.0)
    assert plain == 7 * 800
    tuned = ("trainer.epochs=7", "search.finetune_epochs=3")
    assert seconds(tmp_path, *tuned, train=1.0) == (7 + 3) * 800
    assert seconds(tmp_path, *tuned, "search.finetune_scratch=true", train=1.0) == (7 + 3 + 3) * 800
    noah = ("method=noah", "trainer.epochs=7", "search.retrain_epochs=4")
    assert seconds(tmp_path, *noah, train=1.0) == (7 + 4) * 800
