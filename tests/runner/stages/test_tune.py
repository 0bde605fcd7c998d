"""Choosing a point of the grid."""

import json
from dataclasses import replace

import pytest

from runner.config.errors import ConfigError
from runner.stages.tune import choose, chosen
from tests.helpers.composing import resolved


def test_a_diverged_point_is_recorded_and_passed_over_and_only_a_whole_grid_of_them_fails(tmp_path):
    c = resolved("dataset=dtd", "hparams=val_grid")

    def train_point(at, directory):
        if at.recipe.lr > fatal:
            raise FloatingPointError("loss is nan")
        directory.mkdir(parents=True)
        for name in ("train_train800.json", "weights.safetensors"):
            (directory / name).write_text(str(at.recipe.lr))
        return {"val": {"largest": 0.2, "smallest": 0.4}, "seconds": 1.0}

    with pytest.raises(ConfigError, match="holds no finished grid"):
        chosen(c)
    fatal = 2e-4
    assert choose(replace(c, directory=tmp_path / "one"), train_point).recipe.lr == 1e-4
    record = json.loads((tmp_path / "one" / "grid.json").read_text())
    assert [p["val_accuracy"] for p in record["points"]] == [pytest.approx(0.3), None]
    assert (tmp_path / "one" / "weights.safetensors").read_text() == "0.0001"
    fatal = 0
    with pytest.raises(FloatingPointError, match="every point of the grid diverged: loss is nan"):
        choose(replace(c, directory=tmp_path / "none"), train_point)
