"""The study of rates: its runs are those of the single scripts, its numbers those of validation alone."""

import pytest

from runner.config.errors import ConfigError
from tests.helpers.commands import forked
from tests.helpers.composing import composed, resolved
from tests.helpers.records import record
from tests.helpers.small_runs import command, only
from tools import winner_study
from tools.rate_study import RatesConf, at, rate_table, rated

TOOL = "tools/rate_study.py"


def test_a_rate_is_a_multiple_of_the_forms_own_in_the_key_that_is_its_rate(monkeypatch):
    monkeypatch.setattr(winner_study, "compose", lambda config, overrides: composed(*overrides, config=config))
    noah = ["method=noah", "search.fitness=accuracy", "search.extremes=false", "search.retrain_lr=4.5e-2"]
    for form, factor, own, words in (
        ("repadapter", 0.3, 0.0045, ["method=repadapter", "optimizer.lr=4.5e-3"]),
        ("lora", 1, 0.01, ["method=lora"]),
        ("noah", 3, 0.015, [*noah, "optimizer.lr=1.5e-2"]),
        ("plus", 0.3, 0.0015, ["method=glora_plus", "search.finetune_lr=1.5e-3"]),
    ):
        rate, run = at(form, "digits", 2, factor, [])
        single = resolved("trainer=mini", "search=mini", "dataset=digits", "seed=2", *words)
        assert (run.directory, run.result_directory) == (single.directory, single.result_directory)
        assert rate == own


def test_the_table_shows_validation_of_the_measured_weights_and_a_mean_of_complete_rows_alone():
    found = {
        ("lora", 0.01): {"digits": record(val_accuracy=0.9), "textures": record("textures", val_accuracy=0.8)},
        ("lora", 0.03): {"digits": record(val_accuracy=0.95)},
        ("plus", 0.001): {
            "digits": record(val_accuracy=0.5, tuned_val_accuracy=0.7),
            "textures": record("textures", val_accuracy=0.5, tuned_val_accuracy=0.9),
        },
        ("noah", 0.005): {
            "digits": record(val_accuracy=0.5, retrained_val_accuracy=0.6),
            "textures": record("textures", val_accuracy=0.5, retrained_val_accuracy=0.7),
        },
        ("full", 0.001): {},
    }
    table = rate_table(found, ["digits", "textures"])
    assert table.rows == [
        ["lora", "0.01", "90.0", "80.0", "85.0"],
        ["lora", "0.03", "95.0", "-", "-"],
        ["plus", "0.001", "70.0", "90.0", "80.0"],
        ["noah", "0.005", "60.0", "70.0", "65.0"],
    ]
    assert table.notes[1:] == ["lora: best at 0.01", "plus: best at 0.001", "noah: best at 0.005"]


@pytest.mark.parametrize("protocol", ["clean_1000", "reference_2023_06"])
def test_a_protocol_whose_measured_weights_saw_the_selection_images_is_refused(monkeypatch, protocol):
    monkeypatch.setattr(winner_study, "compose", lambda config, overrides: composed(*overrides, config=config))
    for form in ("lora", "plus"):
        with pytest.raises(ConfigError, match=rf"protocol={protocol} leaves no val200 .*use protocol=clean"):
            at(form, "digits", 0, 0.3, [f"protocol={protocol}"])


def test_factors_are_positive_numbers():
    for factors in ([], [0.0], [-1.0], [float("nan")], [float("inf")]):
        with pytest.raises(ConfigError, match="must be positive numbers, as in factors"):
            rated(RatesConf(forms=["lora"], tasks=["digits"], factors=factors), [])


@pytest.mark.slow
def test_the_study_measures_each_rate_once_and_says_what_was_typed_wrongly(tmp_path, data_root):
    words = command(TOOL, tmp_path, data_root, "tasks=[digits]")
    words[words.index("dataset=digits")] = "backbone=vit_micro"  # the study names the task itself
    done = forked([*words, "forms=[lora]", "measure=false"])
    assert done.returncode == 2 and "no run at these rates is finished" in done.stderr
    for key in ("optimizer.lr", "search.finetune_lr", "search.retrain_lr"):
        done = forked([*words, "forms=[best]", f"{key}=1"])
        assert done.returncode == 2 and f"{key}= is the study's own; type factors=[...]" in done.stderr
    done = forked([*words, "forms=[lora]", "factors=[1,3]"])
    assert done.returncode == 0, done.stderr
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")}
    assert len(stamps) == 2
    again = forked([*words, "forms=[lora]", "factors=[1,3]", "measure=false"])
    assert again.returncode == 0 and {p: p.stat().st_mtime_ns for p in tmp_path.rglob("result.json")} == stamps
    assert "| lora | 0.03 |" in only(tmp_path, "rate_study/table.md").read_text()
