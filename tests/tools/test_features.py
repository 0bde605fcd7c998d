"""Figure 5 from finished runs: its features are those of the measured model, and the command says what is wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.report.result import read_result
from runner.stages import inputs
from runner.stages.evaluate import evaluate
from runner.stages.features import features
from runner.stages.inputs import Preprocess
from runner.stages.model import load_trained
from runner.stages.search import search
from runner.stages.train import train
from tests.helpers.commands import forked
from tests.helpers.composing import resolved
from tests.helpers.figures import pixels
from tests.helpers.small_runs import SMALL

TOOL = "tools/features.py"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> list[Run]:
    """A linear probe and a searched GLoRA on digits, evaluated."""
    root, found = tmp_path_factory.mktemp("features"), []
    for words in (["method=linear"], ["ranks=[2]"]):
        typed = [*SMALL, *words, "trainer.epochs=1", f"output_root={root}", f"data_root={data_root}"]
        run = replace(resolved(*typed), overrides=tuple(typed))
        train(run)
        if run.method.searched:
            search(run)
        evaluate(run)
        found.append(run)
    return found


def test_features_are_what_the_head_of_the_measured_model_reads(finished: list[Run]) -> None:
    run = finished[0]
    found, test = features(run, 10_000), inputs.test_split(run)
    assert found.accuracy == pytest.approx(read_result(run.result_directory / "result.json")["test_accuracy"])
    assert found.labels.tolist() == test.labels.tolist()
    method = load_trained(run, run.directory)
    assert method.head is not None
    with torch.no_grad():
        logits = method.model(Preprocess(run)(test.images[:50]))
        torch.testing.assert_close(method.head(found.values[:50]), logits, rtol=1e-4, atol=1e-4)
    fewer = features(run, 60)
    assert fewer.values.shape == (60, 32) and fewer.labels.bincount().tolist() == [6] * 10
    with pytest.raises(ConfigError, match="is not evaluated yet"):
        features(replace(run, directory=run.output_root / "nowhere"), 60)


def test_a_searched_run_gives_the_features_of_its_winner(finished: list[Run]) -> None:
    run = finished[1]
    record, found = read_result(run.result_directory / "result.json"), features(run, 10_000)
    assert found.accuracy == pytest.approx(record["test_accuracy"])
    assert not torch.equal(found.values, features(finished[0], 10_000).values)


def test_two_runs_are_drawn_side_by_side_with_their_numbers(finished: list[Run], tmp_path: Path) -> None:
    directories = ",".join(str(run.result_directory) for run in finished)
    words = [TOOL, f"runs=[{directories}]", "images=60", f"data_root={finished[0].data.root}"]
    done = forked([*words, f"plot={tmp_path}/x.png"])
    assert done.returncode == 0, done.stderr
    assert pixels(tmp_path / "x.png").shape[1] > 1000 and (tmp_path / "x.svg").exists()
    kept = json.loads((tmp_path / "x.json").read_text())
    assert [entry["name"].partition(",")[0] for entry in kept["runs"]] == ["Linear", "GLoRA-2 (by probability)"]
    assert all(entry["images"] == 60 and 0 <= entry["knn"] <= 1 for entry in kept["runs"])
    first = kept["runs"][0]
    assert f"Linear, digits, seed 0: 10-NN {100 * first['knn']:.1f} %" in done.stdout
    assert f"10-NN {100 * first['knn']:.1f} %" in (tmp_path / "x.svg").read_text()


def test_what_is_no_finished_run_is_said(finished: list[Run], tmp_path: Path) -> None:
    done = forked([TOOL])
    assert done.returncode == 2 and "name one or more results" in done.stderr
    done = forked([TOOL, f"runs=[{tmp_path}]", "method=lora", "images=3"])
    assert done.returncode == 2 and f"{tmp_path} holds no result.json" in done.stderr
    assert "method= says nothing here" in done.stderr and "images=3 must be at least 50" in done.stderr
    result = finished[0].result_directory / "result.json"
    for change, message in (({"overrides": ["dataset=digits"]}, "name digits/"), ({}, "does not say the overrides")):
        moved = tmp_path / "digits" / "moved"
        moved.mkdir(parents=True, exist_ok=True)
        record = json.loads(result.read_text())
        del record["overrides"]
        (moved / "result.json").write_text(json.dumps(record | change))
        done = forked([TOOL, f"runs=[{moved}]"])
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
