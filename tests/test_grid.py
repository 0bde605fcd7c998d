"""`hparams=val_grid`: what the grid is, which point wins, and the commands with a kill in the middle."""

import json
from dataclasses import replace

import pytest
from commands import kill_when
from composing import resolved
from safetensors.torch import load_file
from test_cli import command, only, run

from data import SUITES
from glora.methods import METHODS
from runner.config import grid
from runner.config.errors import ConfigError
from runner.report.tables import build_table
from runner.stages.tune import choose, chosen

GRID = "hparams=val_grid"


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


def test_the_grid_of_glora_is_the_papers_two_rates_wherever_none_is_published():
    for words in (["dataset=dtd"], ["dataset=food101"], ["dataset=imagenet_16shot"], ["dataset=dtd", "ranks=[2]"],
                  ["dataset=dtd", "backbone=swin_b_in22k"]):  # fmt: skip
        assert resolved(GRID, *words).grid.points() == [{"lr": 1e-4}, {"lr": 5e-4}]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_grid_and_the_mini_trainer_has_factors_of_its_rate(method):
    assert len(resolved("dataset=dtd", f"method={method}", GRID).grid.points()) > 1
    plain = resolved("dataset=digits", "trainer=mini", f"method={method}")
    rates = [resolved("dataset=digits", "trainer=mini", f"method={method}", GRID).at_point(p).recipe.lr
             for p in resolved("dataset=digits", "trainer=mini", f"method={method}", GRID).grid.points()]  # fmt: skip
    assert rates == pytest.approx([f * plain.recipe.lr for f in (0.3, 1, 3)])


def test_a_point_sets_the_recipe_and_the_options_and_keeps_the_folder():
    c = resolved("dataset=dtd", "method=fact_tk", GRID, "method.grid.scale=[1,10]", "+method.grid.rank=[8]",
             "+method.grid.lr=[1e-2]", "+method.grid.weight_decay=[0]", "+method.grid.drop_path=[0.2]")  # fmt: skip
    assert [p["scale"] for p in c.grid.points()] == [1, 10]
    at = c.at_point(c.grid.points()[1])
    assert (at.method.options["scale"], at.method.options["rank"], at.backbone.drop_path_rate) == (10.0, 8, 0.2)
    assert type(at.method.options["rank"]) is int
    assert (at.recipe.lr, at.recipe.weight_decay) == (1e-2, 0)
    assert at.directory == c.directory and at.recipe_digest == c.recipe_digest


def test_typed_axes_join_the_factors_of_the_mini_trainer_and_a_typed_rate_replaces_them():
    words = ["dataset=digits", "trainer=mini", "method=lora", GRID]
    assert list(resolved(*words).grid.axes) == ["lr"]
    assert set(resolved(*words, "method.grid.scale=[1,10]").grid.axes) == {"lr", "scale"}
    assert resolved(*words, "+method.grid.lr=[1e-3,2e-3]").grid.axes == {"lr": [1e-3, 2e-3]}
    assert resolved(*words, "+method.grid={lr:[1e-3]}").grid.axes == {"lr": [1e-3]}


def test_the_values_of_the_grid_decide_folder_and_recipe_and_the_chosen_one_does_not():
    homes = {resolved("dataset=dtd", "method=lora", *w).directory
             for w in ([], [GRID], [GRID, "method.grid.scale=[1,10]"])}  # fmt: skip
    assert len(homes) == 3
    for extra in ([], ["trainer.lr_factors=[0.5,1]"], ["~method.grid.lr", "+method.grid.drop_path=[0,0.1]"]):
        assert len({resolved(f"dataset={t}", GRID, *extra).recipe_digest for t in SUITES["vtab"]}) == 1
    others = {resolved("dataset=dtd", GRID, *w).recipe_digest
              for w in ([], ["method.grid.lr=[1e-3]"], ["trainer.lr_factors=[0.5,1]"])}  # fmt: skip
    assert len(others) == 3


@pytest.mark.parametrize(
    ("words", "said"),
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
def test_a_conflict_is_one_clear_message(words, said):
    with pytest.raises(ConfigError) as caught:
        resolved("dataset=dtd", GRID, *words)
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_with_published_values_a_typed_default_wins():
    words = ["dataset=dtd", "method=lora", "hparams=published"]
    assert resolved(*words).method.options["scale"] == 0.01
    assert resolved(*words, "method.options.scale=1").method.options["scale"] == 1.0
    assert resolved(*words, "method.options={scale:1}").method.options["scale"] == 1.0


def tried(accuracy, **point):
    return {"point": point, "val_accuracy": accuracy}


def test_the_best_point_wins_and_ties_go_to_the_smaller_rate_then_to_the_earlier_point():
    assert grid.best([tried(0.5, lr=1e-4), tried(0.6, lr=5e-4)])["point"] == {"lr": 5e-4}
    assert grid.best([tried(0.6, lr=5e-4), tried(0.6, lr=1e-4)])["point"] == {"lr": 1e-4}
    assert grid.best([tried(0.6, scale=10.0), tried(0.6, scale=1.0)])["point"] == {"scale": 10.0}
    assert grid.best([tried(None, lr=1e-5), tried(0.1, lr=1.0)])["point"] == {"lr": 1.0}


def test_a_diverged_point_is_recorded_and_passed_over_and_only_a_whole_grid_of_them_fails(tmp_path):
    c = resolved("dataset=dtd", GRID)

    def train_point(at, home):
        if at.recipe.lr > fatal:
            raise FloatingPointError("loss is nan")
        home.mkdir(parents=True)
        for name in ("train_train800.json", "weights.safetensors"):
            (home / name).write_text(str(at.recipe.lr))
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


def test_tables_say_that_hyper_parameters_were_chosen_on_val200():
    from test_tables import record, row

    assert row(build_table([record(hparams="val_grid")]))["Remarks"] == "hyper-parameters chosen on val200"


def test_a_killed_grid_resumes_and_its_chosen_run_is_the_run_with_those_words(tmp_path, data_root):
    words = ["method=lora", "+method.grid.lr=[1e-3,1e-2]", "protocol=clean_1000", GRID]
    kill_when(tmp_path, "lr=0.01/resume_train800.pt", command("train.py", tmp_path, data_root, *words))
    stamp = only(tmp_path, "lr=0.001/weights.safetensors").stat().st_mtime_ns
    assert not list(tmp_path.rglob("grid.json"))
    early = run("evaluate.py", tmp_path, data_root, *words)
    assert early.returncode == 2 and "run train.py with the same overrides first" in early.stderr
    again = run("train.py", tmp_path, data_root, *words)
    assert again.returncode == 0 and "resuming after epoch" in again.stdout, again.stderr
    assert only(tmp_path, "lr=0.001/weights.safetensors").stat().st_mtime_ns == stamp
    done = run("evaluate.py", tmp_path, data_root, *words)
    assert done.returncode == 0 and "chosen on val200" in done.stdout, done.stderr
    record = json.loads(only(tmp_path, "result.json").read_text())
    assert record["grid"] == json.loads(only(tmp_path, "grid.json").read_text())
    assert [p["point"] for p in record["grid"]["points"]] == [{"lr": 1e-3}, {"lr": 1e-2}]
    assert record["val_accuracy"] == max(p["val_accuracy"] for p in record["grid"]["points"])
    assert record["lr"] == record["grid"]["chosen"]["lr"] and record["hparams"] == "val_grid"
    # The rate given by hand leads to the same weights in both phases; the second exists once, for the chosen point.
    run_words = ["method=lora", f"optimizer.lr={record['lr']}", "protocol=clean_1000"]
    assert run("train.py", tmp_path / "by_hand", data_root, *run_words).returncode == 0
    home = only(tmp_path, "grid.json").parent
    assert len(list(home.rglob("weights_1000.safetensors"))) == 1
    for name in ("weights.safetensors", "weights_1000.safetensors"):
        one, two = load_file(home / name), load_file(only(tmp_path / "by_hand", name))
        assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)


def test_a_supernets_grid_is_judged_by_its_fixed_subnets_and_searched_at_the_chosen_rate(tmp_path, data_root):
    words = [GRID, "trainer.epochs=1", "trainer.max_steps=2", "trainer.lr_factors=[1,2]"]
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, tmp_path, data_root, *words)
        assert done.returncode == 0, done.stderr
    record = json.loads(only(tmp_path, "result.json").read_text())
    for point in record["grid"]["points"]:
        assert set(point["val"]) == {"largest", "smallest", "random0", "random1", "random2"}
        assert point["val_accuracy"] == pytest.approx(sum(point["val"].values()) / 5)
    assert record["lr"] == record["grid"]["chosen"]["lr"]
    assert "nothing to do" in run("train.py", tmp_path, data_root, *words).stdout
