"""`hparams=val_grid`: what the grid is, and which point wins."""

import pytest

from data import SUITES
from glora.methods import METHODS
from runner.config import grid
from runner.config.errors import ConfigError
from tests.helpers.composing import resolved

GRID = "hparams=val_grid"


def test_the_grid_of_glora_is_the_papers_two_learning_rates_wherever_none_is_published():
    for overrides in (["dataset=dtd"], ["dataset=food101"], ["dataset=imagenet_16shot"], ["dataset=dtd", "ranks=[2]"],
                      ["dataset=dtd", "backbone=swin_b_in22k"]):  # fmt: skip
        assert resolved(GRID, *overrides).grid.points() == [{"lr": 1e-4}, {"lr": 5e-4}]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_grid_and_the_mini_trainer_has_factors_of_its_learning_rate(method):
    assert len(resolved("dataset=dtd", f"method={method}", GRID).grid.points()) > 1
    plain = resolved("dataset=digits", "trainer=mini", f"method={method}")
    lrs = [resolved("dataset=digits", "trainer=mini", f"method={method}", GRID).at_point(p).recipe.lr
           for p in resolved("dataset=digits", "trainer=mini", f"method={method}", GRID).grid.points()]  # fmt: skip
    assert lrs == pytest.approx([f * plain.recipe.lr for f in (0.3, 1, 3)])


def test_a_point_sets_the_recipe_and_the_options_and_keeps_the_folder():
    c = resolved("dataset=dtd", "method=fact_tk", GRID, "method.grid.scale=[1,10]", "+method.grid.rank=[8]",
             "+method.grid.lr=[1e-2]", "+method.grid.weight_decay=[0]", "+method.grid.drop_path=[0.2]")  # fmt: skip
    assert [p["scale"] for p in c.grid.points()] == [1, 10]
    at = c.at_point(c.grid.points()[1])
    assert (at.method.options["scale"], at.method.options["rank"], at.backbone.drop_path_rate) == (10.0, 8, 0.2)
    assert type(at.method.options["rank"]) is int
    assert (at.recipe.lr, at.recipe.weight_decay) == (1e-2, 0)
    assert at.directory == c.directory and at.recipe_digest == c.recipe_digest


def test_typed_axes_join_the_factors_of_the_mini_trainer_and_a_typed_learning_rate_replaces_them():
    overrides = ["dataset=digits", "trainer=mini", "method=lora", GRID]
    assert list(resolved(*overrides).grid.axes) == ["lr"]
    assert set(resolved(*overrides, "method.grid.scale=[1,10]").grid.axes) == {"lr", "scale"}
    assert resolved(*overrides, "+method.grid.lr=[1e-3,2e-3]").grid.axes == {"lr": [1e-3, 2e-3]}
    assert resolved(*overrides, "+method.grid={lr:[1e-3]}").grid.axes == {"lr": [1e-3]}


def test_the_values_of_the_grid_decide_folder_and_recipe_and_the_chosen_one_does_not():
    directories = {resolved("dataset=dtd", "method=lora", *w).directory
                   for w in ([], [GRID], [GRID, "method.grid.scale=[1,10]"])}  # fmt: skip
    assert len(directories) == 3
    for extra in ([], ["trainer.lr_factors=[0.5,1]"], ["~method.grid.lr", "+method.grid.drop_path=[0,0.1]"]):
        assert len({resolved(f"dataset={t}", GRID, *extra).recipe_digest for t in SUITES["vtab"]}) == 1
    others = {resolved("dataset=dtd", GRID, *w).recipe_digest
              for w in ([], ["method.grid.lr=[1e-3]"], ["trainer.lr_factors=[0.5,1]"])}  # fmt: skip
    assert len(others) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["optimizer.lr=5e-4"],
            "optimizer.lr is given, but hparams=val_grid chooses lr from [0.0001,0.0005] on val200",
        ),
        (["trainer=mini", "optimizer.lr=1"], "chooses lr from [0.0015,0.005,0.015]"),
        (["method=lora", "method.options.scale=1"], "method.options.scale is given"),  # its default
        (["method=lora", "method.options.scale=2"], "method.options.scale is given"),
        (["method=full", "optimizer.weight_decay=0"], "optimizer.weight_decay is given"),
        (["protocol=reference_2023_06"], "use protocol=clean"),
        (["+method.grid.rank=[4]"], "method.grid.rank is no axis for method=glora; allowed: lr, weight_decay"),
        (["method.grid.lr=[]"], "has no values"),
        (["method.grid.lr=[fast]"], "must be numbers"),
        (["method.grid.lr=[-1e-3]"], "must be positive"),
        (["method=fact_tk", "+method.grid.rank=[4.5]"], "must be whole numbers"),
        (["hparams=global", "method.grid.lr=[1e-3]"], "method.grid.lr: a grid needs hparams=val_grid"),
        (["~method.grid.lr"], "method=glora has no grid"),
    ],
)
def test_a_conflict_is_one_clear_message(overrides, message):
    with pytest.raises(ConfigError) as caught:
        resolved("dataset=dtd", GRID, *overrides)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_with_published_values_a_typed_default_wins():
    overrides = ["dataset=dtd", "method=lora", "hparams=published"]
    assert resolved(*overrides).method.options["scale"] == 0.01
    assert resolved(*overrides, "method.options.scale=1").method.options["scale"] == 1.0
    assert resolved(*overrides, "method.options={scale:1}").method.options["scale"] == 1.0


def tried(accuracy, **point):
    return {"point": point, "val_accuracy": accuracy}


def test_the_best_point_wins_and_ties_go_to_the_smaller_learning_rate_then_to_the_earlier_point():
    assert grid.best([tried(0.5, lr=1e-4), tried(0.6, lr=5e-4)])["point"] == {"lr": 5e-4}
    assert grid.best([tried(0.6, lr=5e-4), tried(0.6, lr=1e-4)])["point"] == {"lr": 1e-4}
    assert grid.best([tried(0.6, scale=10.0), tried(0.6, scale=1.0)])["point"] == {"scale": 10.0}
    assert grid.best([tried(None, lr=1e-5), tried(0.1, lr=1.0)])["point"] == {"lr": 1.0}
