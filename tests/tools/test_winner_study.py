"""The study of GLoRA's forms: its averages by hand, and the whole command line."""

import json

import pytest

from runner.report.tables import MISSING
from tests.helpers.commands import forked
from tests.helpers.composing import resolved
from tests.helpers.records import record, rows
from tests.helpers.small_runs import command, only
from tools.winner_study import BASELINES, FORMS, average, study_table

TOOL = "tools/winner_study.py"


def test_a_row_is_complete_or_has_no_average_and_is_compared_with_the_best_baseline():
    tuned = rows([0.9] * 6, tuning_seconds=7.0, tuned_val_accuracy=0.92, comparators={"untuned": {"test": 0.8}})
    results = {"glora": rows([0.9, 0.6, 0.1, 0.2, 0.3, 0.4], params=10), "plus": tuned, "lora": rows([0.7] * 6),
               "full": rows([0.8] * 6), "noah": [record("digits", 0.99)]}  # fmt: skip
    assert average(results["glora"]) == pytest.approx((0.9 + 0.6 + 0.25) / 3) and average(results["noah"]) is None
    table = study_table(results)
    cells = {r[0]: dict(zip(table.header, r, strict=True)) for r in table.rows}
    assert "vs full" in table.header and "vs lora" not in table.header
    assert cells["plus"]["vs full"] == "+10.0" and cells["full"]["vs full"] == MISSING == cells["noah"]["Average"]
    assert cells["plus"]["vs glora"].startswith("+48.3") and cells["plus"]["Tuning (s)"] == "7"
    assert [cells["plus"][k] for k in ("Val", "Untuned", "From scratch")] == ["92.0", "80.0", MISSING]
    assert cells["glora"]["Val"] == "85.0"
    assert cells["noah"]["textures"] == MISSING and cells["glora"]["Average"] == "58.3"


def test_every_form_names_a_run_of_its_own():
    found = {resolved("trainer=mini", "search=mini", *FORMS[f], "dataset=digits").result_directory for f in FORMS}
    assert len(found) == len(FORMS) and set(BASELINES) < set(FORMS)


@pytest.mark.slow
def test_the_study_makes_what_is_missing_once_and_shows_what_there_is(tmp_path, data_root):
    words = command(TOOL, tmp_path, data_root, "tasks=[digits]", "seeds=1")
    words[words.index("dataset=digits")] = "backbone=vit_micro"  # the study names the task itself
    done = forked([*words, "forms=[lora]", "measure=false"])
    assert done.returncode == 2 and "no run of these forms is finished" in done.stderr
    done = forked([*words, "forms=[lora,best]", "tasks=[digits,cifar100]"])
    assert (
        done.returncode == 2 and "forms: best is not one of glora" in done.stderr and "tasks: cifar100" in done.stderr
    )
    done = forked([*words, "dataset=digits", "seeds=0"])
    assert done.returncode == 2 and "seeds=0 must be at least 1" in done.stderr and "type tasks=[...]" in done.stderr
    done = forked([*words, "forms=[plus,largest]"])
    assert done.returncode == 0, done.stderr
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
    assert len(stamps) == 2
    again = forked([*words, "forms=[plus,largest,lora]", "measure=false"])
    assert again.returncode == 0, again.stderr
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")} == stamps
    study = json.loads(only(tmp_path, "winner_study.json").read_text())
    assert [len(study["records"][f]) for f in ("plus", "largest", "lora")] == [1, 1, 0]
    assert study["records"]["plus"][0]["form"].startswith("sandwich, by loss")
    assert "| plus |" in (tmp_path / "winner_study" / "table.md").read_text()
