"""The check of weight sharing: its figures against independent evaluations, and the whole command line."""

import itertools
import json
import math
import random
import warnings
from dataclasses import replace

import pytest
import torch
from PIL import Image

from runner.stages.inputs import Preprocess, split, training_set
from runner.stages.model import build, load_trained
from runner.stages.train import Job, train
from tests.helpers.commands import forked, kill_when
from tests.helpers.composing import resolved
from tests.helpers.small_runs import command, only, run
from tools.rank_correlation import correlate, statistics_of, train_alone
from tools.supernets import draw

TOOL, FILE = "tools/rank_correlation.py", "rank_correlation.json"


def tau_b(pairs):
    """By counting pairs of pairs."""
    score, free = 0, [0, 0]
    for one, other in itertools.combinations(pairs, 2):
        signs = [(a > b) - (a < b) for a, b in zip(one, other, strict=True)]
        score += signs[0] * signs[1]
        free = [n + bool(s) for n, s in zip(free, signs, strict=True)]
    return score / math.sqrt(free[0] * free[1])


def test_statistics_are_those_of_counted_pairs_and_intervals_hold_them():
    rng = random.Random(0)
    pairs = [(round(x, 1), round(x + rng.gauss(0, 0.3), 1)) for x in (rng.random() for _ in range(20))]
    found = statistics_of(pairs)
    low, high = found["kendall_tau_b"]["interval95"]
    assert found["kendall_tau_b"]["value"] == pytest.approx(tau_b(pairs)) and low < tau_b(pairs) < high <= 1
    turned = statistics_of([(x, 1 - x) for x, _ in pairs])["spearman_rho"]
    assert [turned["value"], *turned["interval95"]] == pytest.approx([-1, -1, -1])
    assert statistics_of([(x, 0.1) for x, _ in pairs])["kendall_tau_b"] == {"value": None, "interval95": None}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # most resamples of so few hold one accuracy for all, and have no value
        assert statistics_of([(0.1, 0.2), (0.3, 0.1)])["kendall_tau_b"] == {"value": -1, "interval95": [-1, -1]}
        assert statistics_of([(0.1, 0.2)])["spearman_rho"] == {"value": None, "interval95": None}
    assert found == statistics_of(pairs) and found["inherited"]["mean"] == pytest.approx(sum(x for x, _ in pairs) / 20)


@pytest.mark.slow
def test_a_killed_check_goes_on_with_accuracies_of_merged_and_of_anew_trained_models(tmp_path, data_root):
    overrides = command(TOOL, tmp_path, data_root, "optimizer.lr=0.02", "alone_epochs=1")
    assert run("train.py", tmp_path, data_root, "optimizer.lr=0.02").returncode == 0
    kill_when(tmp_path, FILE, [*overrides, "subnets=2"])
    path = only(tmp_path, FILE)
    before = json.loads(path.read_text())["subnets"]
    done = forked([*overrides, "subnets=3"])
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    rows = record["subnets"]
    assert 1 <= len(before) < len(rows) == 3 and rows[: len(before)] == before
    assert done.stdout.count(": inherited ") == 3 - len(before) and record["epochs"] == {"supernet": 3, "alone": 1}
    with Image.open(path.with_suffix(".png")) as image:
        assert image.format == "PNG" and image.width >= 900
    c = resolved(*overrides[1:-1])
    one_epoch = replace(c, recipe=replace(c.recipe, epochs=1))
    method, data, val = load_trained(c, c.directory), training_set(c, "train800"), split(c, "val200")
    for row, subnet in zip(rows, draw(method.space, 3, "alone"), strict=True):
        method.set(subnet)
        with torch.no_grad():
            hits = (method.merge()(Preprocess(c)(val.images)).argmax(1) == val.labels).sum()
        assert row["inherited"] == int(hits) / 200 and row["params"] == method.space.params(subnet)
        assert row["alone"] == train_alone(one_epoch, subnet, data, val)


def test_the_subnet_without_any_support_tensor_trains_alone_as_the_linear_probe_does(data_root):
    found = []
    for method in ("glora", "linear"):
        overrides = ["optimizer.lr=0.1", "backbone.drop_path_rate=0", "trainer.epochs=10", f"method={method}"]
        c = resolved(*command(TOOL, "none", data_root, *overrides)[1:])
        data, val = training_set(c, "train800"), split(c, "val200")
        if method == "glora":
            found.append(train_alone(c, build(c).space.smallest, data, val))
            continue
        job = Job(c, data)
        while not job.trainer.done:
            job.trainer.train_epoch(job.inputs, job.labels)
        found.append(job.evaluator(val)()["accuracy"])
    assert found[0] == pytest.approx(found[1], abs=0.006) and found[0] > 0.15  # one image of 200; chance is 0.1


def test_alone_is_trained_at_the_rate_that_the_grid_chose(tmp_path, data_root, monkeypatch):
    words = ["trainer.epochs=1", "trainer.lr_factors=[0.3,3.0]", "hparams=val_grid"]
    c = resolved(*command(TOOL, tmp_path, data_root, *words)[1:])
    train(c)
    rates = []
    monkeypatch.setattr("tools.rank_correlation.train_alone", lambda run, *_: rates.append(run.recipe.lr) or 0.5)
    record = json.loads((correlate(c, 2, 0) / FILE).read_text())
    at = json.loads((c.directory / "grid.json").read_text())["chosen"]["lr"]
    assert rates == [at, at] and record["lr"] == at != c.recipe.lr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=1", "run train.py"),
        ("subnets=none", "subnets=none"),
        ("subnets=0", "subnets=0 must be at least 1"),
        ("method=linear", "has no subnets"),
        ("protocol=reference_2023_06", "val200"),
    ],
)
def test_what_cannot_be_checked_is_one_clear_message(tmp_path, data_root, override, message):
    done = forked(command(TOOL, tmp_path, data_root, override))
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
