"""The stages of a job on W&B: one run, whichever processes they are in, and all of it in the last offline folder."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import pytest
import wandb

from runner.config.run import Run
from runner.report.result import read_result
from runner.stages import train as training
from runner.stages.evaluate import evaluate
from runner.stages.page import log_artifacts
from runner.stages.search import search
from runner.stages.train import train
from runner.stages.whole import whole
from runner.tracking.of_run import page_id
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL
from tests.helpers.wandb_files import history, offline_files, records

pytestmark = pytest.mark.usefixtures("no_account")


@pytest.fixture
def words(tmp_path: Path, data_root: Path) -> list[str]:
    """Of a small offline run."""
    small = [word for word in SMALL if not word.startswith("logger.")]
    return [*small, "logger.wandb=offline", f"output_root={tmp_path}", f"data_root={data_root}"]


class Online:
    """What an online run is told of artifacts: one that it uses is its input."""

    offline = False

    def __init__(self) -> None:
        self.came: list[tuple[str, str]] = []

    def use_artifact(self, artifact: wandb.Artifact) -> None:
        """An input."""
        self.came.append(("used", artifact.name))

    def log_artifact(self, artifact: wandb.Artifact) -> None:
        """An output."""
        self.came.append(("made", artifact.name))


def column(rows: list[dict[str, Any]], key: str) -> list[Any]:
    """The values of a metric, in the order in which they were logged."""
    return [row[key] for row in rows if key in row]


def said_of_run(file: Path) -> Any:
    (found,) = {
        m.run.SerializeToString(): m.run for m in records(file) if m.WhichOneof("record_type") == "run"
    }.values()
    return found


def artifacts(file: Path) -> dict[str, dict[str, Any]]:
    """By their types: metadata, and the files."""
    found = [m.artifact for m in records(file) if m.WhichOneof("record_type") == "artifact"]
    return {a.type: {"metadata": json.loads(a.metadata), "name": a.name,
                     "files": {entry.path: Path(entry.local_path) for entry in a.manifest.contents}}
            for a in found if a.type != "run_table"}  # fmt: skip


@pytest.mark.slow
def test_after_a_kill_and_in_processes_of_their_own_the_last_folder_has_every_stage(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolved(*words, "search.finetune_epochs=1")
    real = training.Resumable.save

    def save(kept: training.Resumable) -> None:
        if kept.trainer.epoch == 2:  # logged, and not kept
            raise KeyboardInterrupt
        real(kept)

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(training.Resumable, "save", save)
        train(run)
    for stage in (train, search, evaluate):
        time.sleep(1)  # W&B names its folders by the second
        stage(run)
    files = offline_files(run.directory)
    assert len(files) == 4 and {history(file)[0] for file in files} == {page_id(run)}
    assert [column(history(file)[1], "train/epoch") for file in files] == [[0, 1], *[[0, 1, 2]] * 3]
    rows = history(files[-1])[1]
    assert column(rows, "search/evolution/best_accuracy") and column(rows, "search/random/best_accuracy")
    assert column(rows, "search/generation")[:4] == [0, 1, 0, 1]
    assert column(rows, "search/candidates/nrows") == column(rows, "search/candidates_scatter_table/nrows") == [20]
    assert column(rows, "tuned/epoch") == [0]
    steps = column(rows, "_step")
    assert steps == sorted(set(steps))

    assert run.search is not None
    found = artifacts(files[-1])
    weights = found["supernet"]["files"]["weights.safetensors"], found["adapter"]["files"]["weights.safetensors"]
    assert weights == (run.directory / "weights.safetensors", run.search.directory / "tuned" / "weights.safetensors")
    assert {"best.json", "result.json", "config.json", "subnet_evolution.json"} < set(found["adapter"]["files"])
    lineage, record = found["adapter"]["metadata"], read_result(run.search.directory / "result.json")
    assert lineage["supernet"].partition(":")[0] == found["supernet"]["name"]
    assert lineage["data_hash"] == record["data_hash"] and lineage["backbone"] == run.backbone.name
    online = Online()
    log_artifacts(cast("wandb.Run", online), run, record)
    assert online.came == [("used", found["supernet"]["name"]), ("made", found["adapter"]["name"])]


def test_a_whole_job_is_one_run_of_its_sweep(words: list[str]) -> None:
    run = resolved(*words, "method=linear", "trainer.epochs=2")
    record = whole(run)
    (file,) = offline_files(run.directory)
    _, rows = history(file)
    assert column(rows, "train/epoch") == [0, 1]
    assert column(rows, "test/classes/nrows") == [10] and column(rows, "test/confusion_table/nrows") == [100]
    shown = {key: value for row in rows for key, value in row.items()}
    assert shown["test/examples/count"] == len(shown["test/examples/captions"]) == 12
    assert all(" taken for class " in caption for caption in shown["test/examples/captions"])
    kept = {u.key: u.value_json for m in records(file) if m.WhichOneof("record_type") == "summary"
            for u in m.summary.update}  # fmt: skip
    assert json.loads(kept["test_accuracy"]) == record["test_accuracy"]
    axes = {m.metric.glob_name: m.metric.step_metric for m in records(file) if m.WhichOneof("record_type") == "metric"}
    assert axes["train/*"] == "train/epoch"
    assert set(artifacts(file)) == {"adapter"}
    said = said_of_run(file)
    assert (said.run_group, said.job_type) == ("mini-vit_micro-mini-clean", "linear")
    whole(run)  # finished: W&B is not started for nothing
    assert offline_files(run.directory) == [file]


def test_a_group_may_have_a_name_and_every_search_over_a_supernet_has_a_page(words: list[str]) -> None:
    runs: list[Run] = [resolved(*words, *more) for more in ([], ["search.generations=3"], ["logger.group=mine"])]
    assert page_id(runs[0]) != page_id(runs[1]) and page_id(runs[0]) == page_id(runs[2])
    assert runs[0].directory == runs[1].directory and runs[2].tracking.group == "mine"
