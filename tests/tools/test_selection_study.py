"""What chooses the better subnet: the rules by hand, the divisions by brute force, and the whole command line."""

import json
import statistics

import numpy as np
import pytest
import torch

from runner.report.tables import MISSING
from runner.stages.inputs import Preprocess, split
from runner.stages.model import load_trained
from tests.helpers.composing import resolved
from tests.helpers.small_runs import command, only, run
from tools import selection_study
from tools.selection_study import RULES, Outcomes, chosen, compare, study_table
from tools.supernets import draw

TOOL = "tools/selection_study.py"


def outcomes(hits, losses, params):
    return Outcomes(np.array(hits, float), np.array(losses, float), np.array(params, float))


def test_each_rule_breaks_its_ties_as_the_searches_do():
    of = outcomes([[1, 1, 0], [1, 1, 0], [1, 0, 1]], [[0.5, 0.5, 9], [0.4, 0.4, 9], [0.3, 2.0, 0.3]], [10, 20, 5])
    every = np.arange(3)
    assert chosen(of, every, "accuracy") == 2  # two hits each: the smallest
    assert chosen(of, every, "loss") == chosen(of, every, "accuracy, ties by loss") == 2  # 0.87 for 3.3
    first = np.arange(2)
    assert chosen(of, first, "accuracy") == 0
    assert chosen(of, first, "accuracy, ties by loss") == chosen(of, first, "loss") == 1
    unsure = outcomes([[1, 1], [1, 0]], [[0.6, 0.6], [0.1, 2.0]], [10, 10])  # 0.55 and 0.55; 0.90 and 0.14
    assert chosen(unsure, first, "probability") == 0 == chosen(unsure, first, "loss")
    bold = outcomes([[1, 1], [1, 0]], [[0.6, 0.6], [0.1, 0.8]], [10, 10])  # 0.55 and 0.55; 0.90 and 0.45
    assert chosen(bold, first, "probability") == 1 == chosen(bold, first, "loss") != chosen(bold, first, "accuracy")
    sure = outcomes([[1, 0], [1, 1]], [[0.01, 5.0], [0.8, 0.8]], [10, 10])  # 0.99 and 0.01; 0.45 and 0.45
    assert chosen(sure, first, "probability") == 0 != chosen(sure, first, "loss")
    same = outcomes([[1], [1], [0]], [[0.5]] * 3, [20, 10, 5])
    assert chosen(same, np.arange(1), "loss") == 1  # its ties go to the hits, then to the smaller


def test_a_loss_that_knows_and_hits_that_are_chance_are_told_apart():
    rng = np.random.default_rng(1)
    skill = np.linspace(0.3, 0.9, 40)
    hits = rng.random((40, 200)) < skill[:, None]
    known = Outcomes(hits.astype(float), np.repeat(1 - skill[:, None], 200, 1), np.full(40, 7.0))
    found = compare(known, 0.125, 300)
    assert found["images"] == 25 and found["loss"] > found["accuracy"] > found["any"]
    assert found["best"] >= found["loss"] and found["better"]["loss"] > found["worse"]["loss"]
    assert found["any"] == pytest.approx(hits.mean(), abs=0.03)


def test_the_means_are_those_of_the_same_divisions_by_plain_loops(monkeypatch):
    monkeypatch.setattr(selection_study, "SEED", 3)
    rng = np.random.default_rng(0)
    hits, losses = (rng.random((6, 8)) < 0.5).astype(float), rng.random((6, 8))
    found = compare(Outcomes(hits, losses, np.arange(6.0)), 0.5, 20)
    again, by_loss, by_hits = np.random.default_rng(3), [], []
    for _ in range(20):
        some, order = again.permutation(6)[:3].tolist(), again.permutation(8).tolist()
        few, rest = order[:4], order[4:]
        one = min(some, key=lambda s: sum(losses[s][i] for i in few))
        other = max(some, key=lambda s: (sum(hits[s][i] for i in few), -s))
        by_loss.append(sum(hits[one][i] for i in rest) / 4)
        by_hits.append(sum(hits[other][i] for i in rest) / 4)
    assert found["loss"] == pytest.approx(statistics.fmean(by_loss))
    assert found["accuracy"] == pytest.approx(statistics.fmean(by_hits))
    assert found["better"]["loss"] == pytest.approx(sum(a > b for a, b in zip(by_loss, by_hits, strict=True)) / 20)
    assert found["worse"]["loss"] == pytest.approx(sum(a < b for a, b in zip(by_loss, by_hits, strict=True)) / 20)


def test_the_table_averages_runs_and_pairs_the_rules_by_task():
    odds = {"better": dict.fromkeys(RULES[1:], 0.5), "worse": dict.fromkeys(RULES[1:], 0.25)}
    place = {**dict.fromkeys(("any", "best", *RULES), 0.5), **odds, "images": 25}
    tasks = (("digits", 0.8, 0.81), ("digits", 0.8, 0.83), ("textures", 0.6, 0.60))
    records = [
        {"dataset": t, "subnets": 200, "chosen_on": [{**place, "accuracy": a, "probability": p}]} for t, a, p in tasks
    ]
    table = study_table(records)
    rows = {row[1]: row for row in table.rows}
    assert list(rows) == ["any", *RULES, "best"] and "of 100 subnets" in table.title
    assert rows["probability"] == ["25", "probability", "74.7", "+1.0 (+0.0 to +2.0)", "50.0", "25.0"]
    assert rows["accuracy"][2:4] == ["73.3", MISSING]


@pytest.mark.slow  # seven commands
def test_the_study_asks_merged_models_about_val200_and_says_what_is_missing(tmp_path, data_root):
    words = command(TOOL, tmp_path, data_root)
    study = run(TOOL, tmp_path, data_root, "subnets=6", "splits=10")
    assert study.returncode == 2 and "run train.py" in study.stderr
    assert not list(tmp_path.rglob("vit*"))  # a folder would say that something had begun
    assert run("train.py", tmp_path, data_root).returncode == 0
    done = run(TOOL, tmp_path, data_root, "subnets=6", "splits=10")
    assert done.returncode == 0 and "probability" in done.stdout, done.stderr
    record = json.loads(only(tmp_path, "selection.json").read_text())
    assert [one["images"] for one in record["chosen_on"]] == [25, 50, 100] and record["subnets"] == 6
    c = resolved(*words[1:])
    method, val = load_trained(c, c.directory), split(c, "val200")
    found = selection_study.outcomes_of(c, selection_study.held_out_supernet(c, "to choose from"), 6)
    for subnet, hits, losses in zip(draw(method.space, 6, "selection", 10**9), found.hits, found.losses, strict=True):
        method.set(subnet)
        with torch.no_grad():
            logits = method.merge()(Preprocess(c)(val.images))
        assert hits.tolist() == (logits.argmax(1) == val.labels).tolist()
        assert losses == pytest.approx(torch.nn.functional.cross_entropy(logits, val.labels, reduction="none").numpy(),
                                       rel=1e-4)  # fmt: skip
    for bad, said in (
        ("method=linear", "no subnets to choose from"),
        ("protocol=reference_2023_06", "protocol=clean"),
        ("subnets=3", "subnets=3 must be at least 4"),
        ("search.max_params=1", "search.max_params"),
    ):
        refused = run(TOOL, tmp_path, data_root, bad)
        assert refused.returncode == 2 and said in refused.stderr and "Traceback" not in refused.stderr, bad
