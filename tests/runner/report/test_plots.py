"""Figures: files that open at a readable size, data in the right places, and clear errors on nothing to draw."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from runner.report.plots import (
    params_by_type,
    pareto_front,
    plot_options,
    plot_params_by_type,
    plot_search,
    plot_training,
)
from runner.report.show import draw_training
from runner.rundir.files import write_json
from tests.helpers import ROOT
from tests.helpers.figures import count, pixels

LAYERS = [f"blocks.{b}.{name}" for b in range(12) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")]
EPOCHS = [{"epoch": e, "loss": 2 / (e + 1), "lr": 1e-3, "val/largest": 0.5 + 0.004 * e} for e in range(30)]
SHORT = [{"epoch": e, "loss": 1.0 + e, "lr": 1e-3} for e in range(3)]


def test_training_draws_a_panel_for_each_kind_of_metric(tmp_path):
    every = pixels(plot_training(EPOCHS, tmp_path / "new" / "training.png"), (1500, 450))
    loss = pixels(plot_training([{"epoch": 0, "loss": 1.0}], tmp_path / "loss.png"))
    assert every.shape[1] == 3 * loss.shape[1]
    sparse = [e if e["epoch"] % 10 == 9 else {"epoch": e["epoch"], "loss": e["loss"]} for e in EPOCHS]
    pixels(plot_training(sparse, tmp_path / "sparse.png"))
    few = plot_training([e | ({"val/largest": 0.5} if e["epoch"] == 2 else {}) for e in SHORT], tmp_path / "few.png")
    ticks = re.findall(r"text-anchor: middle[^>]*>(\d[\d.]*)<", few.with_suffix(".svg").read_text())
    assert ticks == ["1", "2", "3"] * 3  # whole epochs, the same in all panels
    with pytest.raises(ValueError, match="no metrics"):
        plot_training([{"epoch": 0}], tmp_path / "none.png")


def test_pareto_front_by_hand():
    points = [(10, 0.5), (20, 0.4), (20, 0.7), (30, 0.7), (40, 0.9), (5, 0.1)]
    assert pareto_front(points) == [5, 0, 2, 4]
    assert pareto_front([(1, 0.5), (1, 0.5)]) == [0]


def test_search_shows_the_front_and_the_winner(tmp_path):
    generator = np.random.default_rng(0)
    candidates = [{"params": int(p), "accuracy": float(a), "generation": i // 20}
                  for i, (p, a) in enumerate(zip(generator.integers(3000, 40000, 200), generator.random(200),
                                                 strict=True))]  # fmt: skip
    winner = max(range(200), key=lambda i: candidates[i]["accuracy"])
    image = pixels(plot_search(candidates, winner, tmp_path / "search.png", title="digits"))
    assert count(image, "#D55E00") > 300  # the front
    assert count(image, "#E69F00") > 100  # the star
    # The winner has the highest accuracy, so its star lies in the upper half and not only in the legend below.
    assert count(image[: image.shape[0] // 2], "#E69F00") > 50
    pixels(plot_search(candidates[:1], 0, tmp_path / "one.png"))


def test_search_errors(tmp_path):
    with pytest.raises(ValueError, match="no candidates"):
        plot_search([], 0, tmp_path / "x.png")
    with pytest.raises(IndexError, match="winner 3"):
        plot_search([{"params": 1, "accuracy": 0.5, "generation": 0}], 3, tmp_path / "x.png")


def test_options_colour_each_cell_by_its_option(tmp_path):
    none = dict.fromkeys("ABCDE", "none")
    plain = pixels(plot_options(LAYERS, [none] * 48, tmp_path / "none.png"), (2000, 400))
    top = pixels(plot_options(LAYERS, [none | {"A": "vector"}] * 48, tmp_path / "vector.png"), (2000, 400))
    half = pixels(plot_options(LAYERS, [none | {"A": "vector"}] * 24 + [none] * 24, tmp_path / "half.png"))
    assert count(plain, "#56B4E9") == 0
    full_row, half_row = count(top, "#56B4E9"), count(half, "#56B4E9")
    assert half_row == pytest.approx(full_row / 2, rel=0.1)
    rows = np.nonzero((np.abs(top.astype(int) - [0x56, 0xB4, 0xE9]).max(axis=-1) < 12).sum(axis=1) > 500)[0]
    assert rows.max() < top.shape[0] / 2  # A is the first row
    with pytest.raises(ValueError, match="48 layers and 1 option"):
        plot_options(LAYERS, [none], tmp_path / "x.png")


def test_options_with_many_ranks_and_lacking_tensors(tmp_path):
    choice = {"A": "lora_16", "B": "lora_8", "C": "lora_2", "D": "scalar"}
    pixels(plot_options(LAYERS[:4], [choice] * 4, tmp_path / "few.png"))


def test_parameters_by_layer_type(tmp_path):
    names = ["layers.0.blocks.0.mlp.fc1", "layers.0.blocks.0.attn.qkv", "layers.0.blocks.1.attn.qkv",
             "layers.1.downsample.reduction", "head"]  # fmt: skip
    totals = params_by_type(names, [5, 10, 20, 7, 1])
    assert list(totals.items()) == [("qkv", 30), ("fc1", 5), ("reduction", 7), ("head", 1)]
    image = pixels(plot_params_by_type(names, [5, 10, 20, 7, 1], tmp_path / "types.png"))
    assert count(image, "#0072B2") > 5000
    pixels(plot_params_by_type(["a.qkv"], [0], tmp_path / "zero.png"))
    with pytest.raises(ValueError):
        plot_params_by_type(names, [1], tmp_path / "x.png")
    with pytest.raises(ValueError, match="no layers"):
        plot_params_by_type([], [], tmp_path / "x.png")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "tkagg", "no such backend"])
def test_agg_draws_whatever_the_environment_names(tmp_path, backend):
    """A fresh interpreter: matplotlib reads the variable once, at its first import."""
    script = "from runner.report.plots import plot_training; plot_training([{'epoch': 0, 'loss': 1.0}], 'loss.png')"
    environment = {**os.environ, "MPLBACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels(tmp_path / "loss.png")


def test_a_plot_that_fails_is_a_warning_and_the_others_are_drawn(tmp_path, caplog):
    whole = {"data_hash": "ab", "images": 800, "seconds": 1.5}
    write_json(tmp_path / "train_other.json", {"rows": [{"epoch": 0}]})
    write_json(tmp_path / "train_train800.json", {**whole, "rows": []})  # nothing to draw
    write_json(tmp_path / "train_train800val200.json", {**whole, "rows": [{**row, "seconds": 0.5} for row in EPOCHS]})
    (drawn,) = draw_training(tmp_path)
    assert drawn.name == "train_train800val200.png"
    pixels(drawn)
    assert "train_other.json lacks data_hash, images, seconds" in caplog.text
    assert "no picture" in caplog.text and "train_train800.png (ValueError: no metrics" in caplog.text
