"""The study of GLoRA's forms: its averages by hand, and the whole command line."""

import json

import pytest
from matplotlib.collections import PathCollection

from runner.report.figure import new_figure
from runner.report.tables import MISSING
from tests.helpers.commands import forked
from tests.helpers.composing import resolved
from tests.helpers.records import record, rows
from tests.helpers.small_runs import command, only
from tools.winner_forms import BASELINES, FORMS, compared
from tools.winner_plot import Point, label, plot
from tools.winner_study import StudyConf, average, study, study_table

TOOL = "tools/winner_study.py"


def test_a_row_is_complete_or_has_no_average_and_is_compared_with_the_best_baseline():
    tuned = rows([0.9] * 6, tuning_seconds=7.0, tuned_val_accuracy=0.92)
    results = {"glora": rows([0.9, 0.6, 0.1, 0.2, 0.3, 0.4], params=10), "plus": tuned, "lora": rows([0.7] * 6),
               "full": rows([0.8] * 6), "noah": [record("digits", 0.99)]}  # fmt: skip
    assert average(results["glora"]) == pytest.approx((0.9 + 0.6 + 0.25) / 3) and average(results["noah"]) is None
    table = study_table(results)
    cells = {r[0]: dict(zip(table.header, r, strict=True)) for r in table.rows}
    assert "vs full" in table.header and "vs lora" not in table.header
    assert cells["plus"]["vs full"] == "+10.0" and cells["full"]["vs full"] == MISSING == cells["noah"]["Average"]
    assert cells["plus"]["vs glora"].startswith("+48.3") and cells["plus"]["Tuning (s)"] == "7"
    assert cells["plus"]["Val"] == "92.0" and cells["glora"]["Val"] == "85.0"
    assert cells["noah"]["textures"] == MISSING and cells["glora"]["Average"] == "58.3"


def test_what_was_measured_beside_a_winner_has_rows_of_its_own():
    beside = {"images": 1000, "largest": {"test": 0.8, "params": 99},
              "random_subnets": {"subnets": 20, "test_mean": 0.4, "test_sd": 0.1},
              "random_search": {"test": 0.6, "val": 0.7, "params": 11}, "untuned": {"test": 0.5}}  # fmt: skip
    few = {"winner": {"test": 0.9}, "largest": {"test": 0.1, "params": 99}}
    times = {"search_seconds": 5.0, "tuning_seconds": 7.0, "training_seconds": 100.0}
    plus = rows([0.9] * 6, comparators=beside, val_accuracy=0.85, tuned_val_accuracy=0.95, params=10, **times)
    # The last saw fewer test images than the winner: its winner counts and its comparators do not.
    last = record("digits", 0.9, seed=1, comparators=few, val_accuracy=0.85, params=10, **times)
    table = study_table(compared({"lora": rows([0.3] * 6), "plus": [*plus, last]}))
    cells = {r[0]: dict(zip(table.header, r, strict=True)) for r in table.rows}
    assert list(cells) == ["lora", "plus", "plus_untuned", "plus_largest", "plus_random", "plus_random_search"]
    keys = ("digits", "Average", "vs lora", "Val", "Params", "Training (s)", "Search (s)", "Tuning (s)", "Runs")
    assert [cells["plus_largest"][k] for k in keys] == ["80.0", "80.0", "+50.0", "-", "99", "100", "-", "-", "6"]
    assert [cells["plus_untuned"][k] for k in keys[:5]] == ["50.0", "50.0", "+20.0", "85.0", "10"]
    assert [cells["plus_random_search"][k] for k in keys[:5]] == ["60.0", "60.0", "+30.0", "70.0", "11"]
    assert [cells["plus_random"][k] for k in keys[:5]] == ["40.0", "40.0", "+10.0", "-", "-"]
    assert cells["plus"]["Runs"] == "7" and cells["plus"]["Val"] != cells["plus_untuned"]["Val"]


def test_names_in_the_picture_cover_neither_each_other_nor_points():
    figure = new_figure(7.2, 4.8)
    axes = figure.subplots()
    # All to the upper right, the third would cover the fourth's point, and the first two each other.
    points = {"plus_untuned": (80_013.0, 89.9), "paper": (75_549.0, 89.8), "adaptformer": (13_104.0, 89.5),
              "noah": (20_182.0, 89.6), "lora": (24_576.0, 90.2), "full": (1_223_040.0, 90.1)}  # fmt: skip
    axes.scatter([x for x, _ in points.values()], [y for _, y in points.values()])
    axes.set_xscale("log")
    axes.set_ylim(87, 92)
    label(axes, points)
    names = [text.get_window_extent() for text in axes.texts]
    assert len(names) == 6 and all(box.x1 < figure.bbox.x1 for box in names)
    assert all(a.count_overlaps([b for b in names if b is not a]) == 0 for a in names)
    dots = axes.transData.transform(list(points.values()))
    assert not any(box.contains(*dot) for box in names for dot in dots)


def test_the_picture_has_every_complete_row_and_a_bar_where_seeds_spread(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("tools.winner_plot.save", lambda figure, path: drawn.append(figure.axes[0]) or path)
    points = {"plus": Point(80_000.0, 0.912, 0.004), "lora": Point(24_576.0, 0.9)}
    plot({**points, "repadapter_long": Point(20_064.0, 0.9)}, tmp_path / "x.png")
    (axes,) = drawn
    plus, *others = [dots.get_facecolor()[0].tolist() for dots in axes.collections if isinstance(dots, PathCollection)]
    assert plus != [1, 1, 1, 1] and others == [[1, 1, 1, 1]] * 2  # another recipe makes no GLoRA of RepAdapter
    (bar,) = [line for c in axes.containers for line in c.lines[2]]
    ((_, low), (_, high)), *others = bar.get_segments()
    assert (low, high) == (pytest.approx(90.8), pytest.approx(91.6)) and not others
    assert {text.get_text() for text in axes.texts} == {"plus", "lora", "repadapter_long"}


def test_every_form_names_a_run_of_its_own():
    found = {resolved("trainer=mini", "search=mini", *FORMS[f], "dataset=digits").result_directory for f in FORMS}
    assert len(found) == len(FORMS) and set(BASELINES) < set(FORMS)


def test_what_is_typed_twice_counts_once(monkeypatch):
    monkeypatch.setattr("tools.winner_study.named", lambda form, task, seed, overrides: (form, task, seed))
    monkeypatch.setattr("tools.winner_study.made", lambda run, measure: record(run[1], 0.8, seed=run[2]))
    conf = StudyConf(tasks=["digits", "textures", "digits"], forms=["lora", "full", "lora"], seeds=2)
    found = study(conf, [])
    assert {form: len(records) for form, records in found.items()} == {"lora": 4, "full": 4}


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
