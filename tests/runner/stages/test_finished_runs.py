"""What a finished training and search left: damaged files are named, comparators are measured on few test images."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path

import pytest
import torch

from runner.config.errors import ConfigError
from runner.stages import evaluate as evaluation
from runner.stages import inputs
from runner.stages.evaluate import evaluate as measure
from runner.stages.export import export
from runner.stages.model import load_trained
from runner.stages.search import search
from runner.stages.train import train
from tests.helpers.commands import forked
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """The overrides of a searched run, and where it lies."""
    root = tmp_path_factory.mktemp("searched")
    overrides = [*SMALL, "trainer.epochs=1", f"data_root={root / 'data'}"]
    c = resolved(*overrides, f"output_root={root / 'runs'}")
    train(c)
    search(c)
    return overrides, root / "runs"


@pytest.mark.parametrize("stage", [train, search, measure, export])
def test_weights_that_are_cut_short_are_named(copied, stage):
    overrides, runs = copied
    (weights,) = runs.rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-7])
    for best in runs.rglob("best.json") if stage is search else ():
        best.unlink()
    with pytest.raises(ConfigError, match=r"weights\.safetensors is damaged .*delete it and train"):
        stage(resolved(*overrides))
    assert weights.exists()


@pytest.mark.parametrize("text", ["", "[1", "[]", "{}", '{"blocks.0.attn.qkv": 3}', "\x00\xff"])
@pytest.mark.parametrize("stage", [measure, export])
def test_a_subnet_that_is_none_is_named(copied, stage, text):
    overrides, runs = copied
    (runs_subnet,) = runs.rglob("subnet_evolution.json")
    runs_subnet.write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"subnet_evolution\.json holds no subnet .*run search\.py"):
        stage(resolved(*overrides))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("best.json", '{"params": 3}', "best.json lacks search"),
        ("best.json", "{", "best.json is no JSON"),
    ],
)
def test_a_summary_without_its_keys_is_named(copied, name, text, message):
    overrides, runs = copied
    next(runs.rglob(name)).write_text(text)
    with pytest.raises(ConfigError, match=message):
        measure(resolved(*overrides))


@pytest.mark.parametrize("extremes", ["true", "false"])
def test_limits_between_which_no_subnet_lies_are_refused_in_a_line(copied, extremes):
    overrides, _ = copied
    # Within the range of sizes (0 to 21,184), where single parameters make no size of their own.
    words = (f"search.extremes={extremes}", "search.min_params=21181", "search.max_params=21183")
    with pytest.raises(ConfigError, match=r"found no subnet between 21,181 and 21,183 .*widen the limits: search\.max"):
        search(resolved(*overrides, *words))


def test_a_search_without_a_supernet_leaves_nothing_behind(tmp_path):
    run = resolved(*SMALL, "seed=7", f"output_root={tmp_path}")
    with pytest.raises(ConfigError, match=r"holds no finished training; run train\.py"):
        search(run)
    assert not list(tmp_path.iterdir())


def test_a_search_state_without_its_keys_is_named(copied):
    overrides, runs = copied
    (state,) = runs.rglob("evolution.json")
    next(runs.rglob("best.json")).unlink()
    state.write_text('{"generation": 1, "candidates": [{"accuracy": 1}]}')
    with pytest.raises(ConfigError, match=r"evolution\.json lacks candidates\.0\.params, .*delete it to search anew"):
        search(resolved(*overrides))


def test_a_damaged_result_is_named_beside_the_tables_of_the_others(copied):
    overrides, runs = copied
    measure(resolved(*overrides))
    (result,) = runs.rglob("result.json")
    for name, text in (("other", "{"), ("third", '{"dataset": "digits"}')):
        (runs / name).mkdir()
        (runs / name / "result.json").write_text(text)
    done = forked(["evaluate.py", f"output_root={runs}"])
    assert done.returncode == 2 and "GLoRA-8-4" in done.stdout
    assert f"{runs / 'other' / 'result.json'} is no JSON" in done.stderr
    assert f"{runs / 'third' / 'result.json'} lacks suite" in done.stderr and "without these results" in done.stderr
    assert result.exists() and "Traceback" not in done.stderr


def test_comparators_see_few_test_images_and_the_winner_all(copied, monkeypatch):
    overrides, runs = copied
    c, seen, predicted = resolved(*overrides), [], []
    whole = inputs.test_split(c)
    few = inputs.balanced_cut(whole, 100)
    real, predict = evaluation.accuracy, evaluation.predict

    def predicting(model, batches, labels):
        predicted.append(len(labels))
        return predict(model, batches, labels)

    def counting(model, images, labels, prep):
        seen.append(len(labels))
        if len(labels) == 100:
            assert torch.equal(images, few.images) and torch.equal(labels, few.labels)
        return real(model, images, labels, prep)

    monkeypatch.setattr(evaluation, "accuracy", counting)
    monkeypatch.setattr(evaluation, "predict", predicting)
    monkeypatch.setattr(evaluation, "COMPARED_IMAGES", 100)
    record = measure(c)
    assert predicted == [797] and seen == [100] * 23
    assert record["comparators"]["images"] == 100 and record["comparators"]["winner"]["test"] != record["test_accuracy"]
    shown = forked(["evaluate.py", f"output_root={runs}", "details=true"])
    assert "on 100 class-balanced test images, where the winner" in " ".join(shown.stdout.split())
    next(runs.rglob("result.json")).unlink()
    monkeypatch.setattr(evaluation, "COMPARED_IMAGES", 1000)
    seen.clear()
    record = measure(c)
    assert (
        predicted == [797] * 2
        and seen == [797] * 22
        and record["comparators"]["images"] == 797
        and "winner" not in record["comparators"]
    )
    assert json.loads(next(runs.rglob("result.json")).read_text()) == {"schema": 3, **record}


def test_random_subnets_are_as_many_as_asked_and_the_first_of_one_order(copied):
    overrides, runs = copied
    c = resolved(*overrides)
    test, method = inputs.test_split(c), load_trained(c, c.directory)
    draw, hits = random.Random("comparators"), []
    with torch.no_grad():
        for _ in range(20):
            method.set(method.space.sample(draw))
            logits = method.model.eval()(inputs.Preprocess(c)(test.images))
            hits.append((logits.argmax(1) == test.labels).float().mean().item())
    for words, count in (([], 20), (["search.random_subnets=2"], 2), (["search.random_subnets=0"], 0)):
        run = resolved(*overrides, *words)
        search(run)
        measure(run)
        compared = json.loads((run.search.directory / "result.json").read_text())["comparators"]
        assert {"largest", "random_search"} <= {*compared}
        found = compared.get("random_subnets")
        assert found is None if not count else found["subnets"] == count
        if found is not None:
            assert found["test_mean"] == pytest.approx(statistics.fmean(hits[:count]))
            assert found["test_sd"] == pytest.approx(statistics.stdev(hits[:count]))
    table = forked(["evaluate.py", f"output_root={runs}", "details=true"]).stdout
    assert table.count("(20)") == 1 and table.count("(2)") == 1
