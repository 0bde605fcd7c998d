"""Choosing a point of the grid."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from runner.config.errors import ConfigError
from runner.config.grid import point_name
from runner.rundir.records import Tried, read
from runner.rundir.weights import read_weights, write_weights
from runner.stages.tune import choose, chosen
from tests.helpers.composing import resolved


def test_a_diverged_point_is_recorded_and_passed_over_and_only_a_whole_grid_of_them_fails(tmp_path):
    c = resolved("dataset=dtd", "hparams=val_grid")

    def train_point(at, directory):
        if at.recipe.lr > fatal:
            raise FloatingPointError("loss is nan")
        directory.mkdir(parents=True)
        (directory / "train_train800.json").write_text("{}")
        write_weights(directory / "weights.safetensors", {"lr": torch.tensor(at.recipe.lr)})
        return {"val": {"largest": 0.2, "smallest": 0.4}, "seconds": 1.0}

    with pytest.raises(ConfigError, match="holds no finished grid"):
        chosen(c)
    fatal = 2e-4
    assert choose(replace(c, directory=tmp_path / "one"), train_point).recipe.lr == 1e-4
    record = json.loads((tmp_path / "one" / "grid.json").read_text())
    assert [p["val_accuracy"] for p in record["points"]] == [pytest.approx(0.3), None]
    assert read_weights(tmp_path / "one" / "weights.safetensors")["lr"] == pytest.approx(1e-4)
    made = tmp_path / "one" / "grid" / point_name(record["chosen"])
    (tmp_path / "one" / "weights.safetensors").unlink()
    shutil.rmtree(made)  # trains again
    assert choose(replace(c, directory=tmp_path / "one"), train_point).recipe.lr == 1e-4
    assert (tmp_path / "one" / "weights.safetensors").exists()
    fatal = 0
    with pytest.raises(FloatingPointError, match="every point of the grid diverged: loss is nan"):
        choose(replace(c, directory=tmp_path / "none"), train_point)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"val": None}, "has val and seconds, and did not diverge"),
        ({"seconds": None}, "has val and seconds, and did not diverge"),
        ({"diverged": "loss is nan"}, "has val and seconds, and did not diverge"),
        ({"val_accuracy": 0.5}, r"val_accuracy=0\.5 is not the mean of val"),
        ({"val_accuracy": {}}, "has val_accuracy="),
        ({"val_accuracy": None}, "lacks val_accuracy"),
        ({"point": {"lr": 0.5}}, r"has point=\{'lr': 0\.5\}, not \{'lr': "),
    ],
)
def test_a_point_that_is_read_again_is_whole_and_its_own(tmp_path, change, said):
    c = replace(resolved("dataset=dtd", "hparams=val_grid"), directory=tmp_path)
    done = {"val": {"largest": 0.25, "smallest": 0.5}, "seconds": 1.0}

    def train_point(at, directory):
        directory.mkdir(parents=True)
        (directory / "train_train800.json").write_text("{}")
        write_weights(directory / "weights.safetensors", {"lr": torch.tensor(at.recipe.lr)})
        return done

    choose(c, train_point)
    grid = (tmp_path / "grid.json").read_text()
    (tmp_path / "grid.json").unlink()
    choose(c, train_point)  # from the points alone
    assert (tmp_path / "grid.json").read_text() == grid
    (tmp_path / "grid.json").unlink()
    file = next(tmp_path.rglob("point.json"))
    record = {**json.loads(file.read_text()), **change}
    file.write_text(json.dumps({key: value for key, value in record.items() if value is not None}))
    with pytest.raises(ConfigError, match=rf"point\.json .*{said}.*delete it, and run train\.py"):
        choose(c, train_point)


def test_a_point_without_accuracy_says_how_it_diverged(tmp_path):
    (tmp_path / "point.json").write_text('{"point": {"lr": 0.5}, "val_accuracy": null, "val": {"accuracy": 0.5}}')
    with pytest.raises(ConfigError, match="val_accuracy is null, and diverged does not say why"):
        read(tmp_path / "point.json", Tried)
