"""Result tables: hand-computed means, completeness of groups, and what marks a row as not comparable."""

import csv
import io
import os
import subprocess
import sys

import pytest

from runner.report.cost_table import cost_table
from runner.report.published import TABLE1, TABLE5, VTAB_ORDER
from runner.report.render import to_csv, to_latex, to_markdown, to_rich
from runner.report.render import write_all as write_tables
from runner.report.search_table import search_table
from runner.report.tables import Table, build_table, build_tables
from runner.rundir.files import write_json
from tests.helpers import ROOT
from tests.helpers.records import MINI, record, row


def test_a_complete_suite_averages_over_groups_not_over_tasks():
    accuracies = [0.9, 0.6, 0.1, 0.2, 0.3, 0.4]
    params = [1000, 2000, 3000, 5000, 5000, 7000]
    records = [record(d, a, params=p) for d, a, p in zip(MINI, accuracies, params, strict=True)]
    table = build_table(records[::-1])
    assert table.header[1:7] == ["Digits (UCI)", "Textures", "Shapes-Count", "Shapes-Loc", "Shapes-Ori", "Shapes-Dist"]
    got = row(table)
    assert [got[name] for name in ("Nat", "Spec", "Struct", "Average")] == ["90.0", "60.0", "25.0", "58.3"]
    assert got["Params"] == "2,667"  # (1000 + 2000 + 5000) / 3; over tasks it would be 3,833
    assert (got["Seeds"], got["Train images"], got["Protocol"], got["Remarks"]) == ("1", "800", "clean", "")


def test_what_this_project_defines_on_a_swin_is_marked():
    for backbone, mark in (("swin_b_in22k", "on a Swin defined by this project"), ("vit_micro", "")):
        for method, expected in (("fact_tk", mark), ("vpt_deep", mark), ("bitfit", ""), ("glora", "")):
            table = build_table([record(method=method, label=method, backbone=backbone)])
            assert row(table, method)["Remarks"] == expected


def test_an_incomplete_group_has_no_mean_and_no_average():
    table = build_table([record("shapes_count", 0.5, params=10), record("digits", 0.7, params=30)])
    got = row(table)
    assert [got[name] for name in ("Nat", "Spec", "Struct", "Average")] == ["70.0", "-", "-", "-"]
    assert got["Params"] == "20"


def test_seeds_give_mean_and_sample_sd():
    table = build_table([record(test=t, seed=s) for s, t in enumerate((0.80, 0.82, 0.87))])
    # mean 83, deviations -3 -1 4: sqrt(26 / 2) = 3.606
    assert row(table)["Digits (UCI)"] == "83.0 ± 3.6"
    assert row(table)["Seeds"] == "3"
    uneven = build_table([record(seed=0), record(seed=1), record("textures", seed=0), record("textures", None, seed=1)])
    assert row(uneven)["Seeds"] == "1-2"


def test_rows_chosen_on_the_test_set_say_so_and_are_not_averaged_with_others():
    table = build_table([record(test=0.8), record(test=0.9, selected_on_test=True, seed=1)])
    assert [(r[1], r[-1]) for r in table.rows] == [("80.0", ""), ("90.0", "selected on test")]


@pytest.mark.parametrize("field", ["source", "codec", "normalization"])
def test_mixed_inputs_are_flagged(field):
    same_task = build_table([record(**{field: "a"}), record(seed=1, **{field: "b"})])
    assert any("MIXED within a task" in note and "digits: a, b" in note for note in same_task.notes)
    across = build_table([record(**{field: "a"}), record("textures", **{field: "b"})])
    assert any("mixed across tasks" in note and "digits: a; textures: b" in note for note in across.notes)


def test_a_normalization_in_numbers_is_flagged_beside_a_name():
    numbers = {"mean": [0.4, 0.5, 0.6], "std": [1.0, 1.0, 1.0]}
    table = build_table([record(), record(seed=1, normalization=numbers), record(seed=2, normalization=numbers)])
    assert any("normalizations MIXED" in note and f"digits: imagenet, {numbers}" in note for note in table.notes)


def vtab(**changes):
    return record("cifar100", 0.75, suite="vtab", backbone="vit_b16_in21k", params=856_789, **changes)


def test_published_rows_stand_beside_and_are_comparable_only_under_clean_1000():
    clean = build_table([vtab()])
    paper, own = row(clean), row(clean, number=1)
    assert (paper["Cifar100"], paper["Average"], paper["Params"]) == ("76.4", "78.0", "0.86M")
    assert (own["Cifar100"], own["Average"], own["Params"]) == ("75.0", "-", "856,789")
    assert paper["Remarks"] == "published, not directly comparable"
    assert any("2306.07967" in note for note in clean.notes)
    same = build_table([vtab(protocol="clean_1000", training_images=1000)])
    assert row(same)["Remarks"] == "published"
    assert not any("not directly comparable" in note for note in same.notes)
    assert any("2306.07967, Table 5" in n for n in build_table([vtab() | {"backbone": "swin_b_in22k"}]).notes)
    assert len(build_table([vtab() | {"backbone": "vit_tiny"}]).rows) == 1


def test_published_numbers_reproduce_their_printed_average():
    for published in TABLE1.rows:
        assert tuple(published.tasks) == VTAB_ORDER
        mean = (published.natural + published.specialized + published.structured) / 3
        assert mean == pytest.approx(published.average, abs=0.11), published.method
    for published in TABLE5.rows:
        mean = (published.natural + published.specialized + published.structured) / 3
        assert mean == pytest.approx(published.average, abs=0.11), published.method
    full = TABLE1.rows[0]
    assert full.natural == pytest.approx(531.2 / 7)  # 68.9 + 87.7 + 64.3 + 97.2 + 86.9 + 87.4 + 38.8


def test_published_columns_are_the_registry_of_the_data_package():
    from data.tasks import SUITES

    assert SUITES["vtab"] == VTAB_ORDER


def test_one_table_for_each_suite_backbone_and_protocol():
    records = [record(), record(protocol="clean_1000"), vtab(), record("textures")]
    assert [len(table.rows) for table in build_tables(records)] == [1, 1, len(TABLE1.rows) + 1]
    with pytest.raises(ValueError, match="one \\(suite, backbone, protocol\\)"):
        build_table(records)


COMPARED = {"largest": {"test": 0.7, "params": 99_000},
            "random_subnets": {"subnets": 20, "test_mean": 0.6, "test_sd": 0.03},
            "random_search": {"val": 0.82, "test": 0.79, "params": 20_000}}  # fmt: skip


def test_search_table_shows_the_gap_and_what_the_winner_must_beat():
    other = COMPARED | {"random_subnets": {"subnets": 20, "test_mean": 0.64, "test_sd": 0.04}}
    records = [record(test=0.80, val_accuracy=0.90, comparators=COMPARED),
               record(test=0.84, val_accuracy=0.90, seed=1, comparators=other),
               record(label="Linear", method="linear", ranks=[])]  # fmt: skip
    table = search_table(records)
    assert len(table.rows) == 1
    got = row(table)
    assert (got["Winner val"], got["Winner test"], got["Gap"]) == ("90.0 ± 0.0", "82.0 ± 2.8", "8.0 ± 2.8")
    assert got["Largest test"] == "70.0 ± 0.0"
    assert got["Random test"] == "62.0 ± 3.5 (20)"  # sqrt((9 + 16) / 2) = 3.54
    assert (got["Random search val"], got["Random search test"]) == ("82.0 ± 0.0", "79.0 ± 0.0")
    assert (got["Params winner"], got["Params largest"], got["Params random search"]) == ("12,345", "99,000", "20,000")
    assert got["Seeds"] == "2"


def test_search_table_without_validation_or_comparators():
    got = row(search_table([record(val_accuracy=None, selected_on_test=True)]))
    assert (got["Winner val"], got["Gap"], got["Largest test"], got["Remarks"]) == ("-", "-", "-", "selected on test")
    assert search_table([]).rows == []


NASTY = Table("50% of A_B", ["Method", "a|b"], [["x_1 & [red]y", "1.0 ± 0.2"]], ["100% #1"])


def test_renderers_escape_and_carry_the_notes(tmp_path):
    markdown = to_markdown(NASTY)
    assert "| Method | a\\|b |" in markdown and "- 100% #1" in markdown
    latex = to_latex(NASTY)
    assert r"x\_1 \& [red]y & 1.0 $\pm$ 0.2 \\" in latex and r"50\% of A\_B" in latex and r"100\% \#1" in latex
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert latex.count("{") == latex.count("}")
    lines = list(csv.reader(io.StringIO(to_csv(NASTY))))
    assert lines == [["Method", "a|b"], ["x_1 & [red]y", "1.0 ± 0.2"], ["# 100% #1"]]
    paths = write_tables([NASTY, build_table([vtab()])], tmp_path / "new")
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.tex"]
    assert all("published" in path.read_text(encoding="utf-8") for path in paths)


def test_latex_reads_no_cell_as_a_command_or_its_argument():
    rows = [["[8,4] <1 {x}", "-1.5 (-2.0 to +0.3)"], ["*", "GLoRA-8-4, 1-3 | ~^\\"]]
    latex = to_latex(Table("a", ["Method", "b"], rows))
    first, second = latex.splitlines()[9:11]
    assert first == r"{}[8,4] \textless{}1 \{x\} & $-$1.5 ($-$2.0 to +0.3) \\"
    assert second == r"{}* & GLoRA-8-4, 1-3 \textbar{} \textasciitilde{}\textasciicircum{}\textbackslash{} \\"


def test_the_printed_table_loses_no_cell_on_a_narrow_console():
    from rich.console import Console

    out = io.StringIO()
    table = build_table([vtab(), *(vtab() | {"dataset": d} for d in VTAB_ORDER[1:])])
    to_rich(table, Console(file=out, width=80))
    printed = out.getvalue()
    assert "…" not in printed and all(len(line) <= 80 for line in printed.splitlines())
    assert all(name in printed for name in table.header) and "37.0" in printed
    to_rich(NASTY, Console(file=out, width=80))
    assert "[red]y" in out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}]
)
def test_a_terminal_that_is_not_utf_8_shows_every_table(tmp_path, settings):
    for seed, test in ((0, 0.6), (1, 0.7)):
        write_json(tmp_path / str(seed) / "result.json", record(seed=seed, test=test))
    command = [sys.executable, "evaluate.py", f"output_root={tmp_path}"]
    for more, shown in (([], "65.0"), (["details=true"], "65.0 +- 7.1")):
        done = subprocess.run([*command, *more], cwd=ROOT, env={**os.environ, **settings}, capture_output=True)
        printed = done.stdout.decode("ascii")
        assert done.returncode == 0 and not done.stderr and shown in printed
    assert "65.0 +- 7.1" in printed and "mean +- sample sd" in printed
    (cells,) = [line for line in printed.splitlines() if "65.0 +- 7.1" in line]
    (header,) = [line for line in printed.splitlines() if "Digits (UCI)" in line]
    assert [i for i, c in enumerate(cells) if c == "|"] == [i for i, c in enumerate(header) if c == "|"]
    assert "65.0 ± 7.1" in (tmp_path / "tables" / "table.md").read_text(encoding="utf-8")


def test_published_hyper_parameters_are_marked_in_every_table():
    for test, mark in ((False, "published hyper-parameters"), (True, "selected on test, published hyper-parameters")):
        chosen = record(hparams="published", selected_on_test=test, comparators=COMPARED)
        for table in (build_table([chosen]), search_table([chosen])):
            assert row(table)["Remarks"] == mark


def test_costs_are_means_of_what_was_recorded_and_kept_apart_by_machine():
    here, there = {"device": "A", "threads": 1}, {"device": "B", "threads": 2}
    costs = {"training_seconds": 100.0, "search_seconds": None, "peak_memory_mb": None, "environment": here}
    records = [
        record(seed=0, **costs),
        record(seed=1, **costs | {"training_seconds": 300.0, "search_seconds": 40.0, "peak_memory_mb": 512.4}),
        record("textures", seed=0, **costs | {"environment": there}),
    ]
    table = cost_table(records)
    first, second = row(table), row(table, number=1)
    assert (first["Training (s)"], first["Search (s)"], first["Peak memory (MB)"]) == ("200 (max 300)", "40", "512")
    assert (first["Runs"], first["Machine"]) == ("2", "A, 1 thread")
    assert (second["Training (s)"], second["Search (s)"], second["Machine"]) == ("100", "-", "B, 2 threads")


def test_costs_say_what_was_chosen_per_task_and_what_selecting_took():
    def point(lr, seconds):
        return {"point": {"lr": lr, "weight_decay": 0.0}, "val_accuracy": 0.8, "seconds": seconds}

    diverged = {"point": {"lr": 1.0, "weight_decay": 0.0}, "val_accuracy": None, "diverged": "NaN"}
    grid = {"chosen": {"lr": 0.1, "weight_decay": 0.0}, "points": [point(0.1, 50.0), point(0.2, 30.0), diverged]}
    vpt = record(method="vpt_deep", label="VPT-Deep", hparams="val_grid", grid=grid)
    found = row(cost_table([vpt]), "VPT-Deep")
    assert (found["Selection (s)"], found["Chosen per task"]) == ("30", "lr, weight_decay of 3 points")
    assert found["Knobs"] == "lr 10, weight_decay 4"
    ssf = row(cost_table([record(method="ssf", label="SSF", hparams="published")]), "SSF")
    assert (ssf["Selection (s)"], ssf["Chosen per task"]) == ("-", "lr, weight_decay, drop_path as published")
    searched = {"random_subnets": {"subnets": 20, "test_mean": 0.7, "test_sd": 0.1}, "random_search": {"val": 0.8}}
    assert row(cost_table([record(search="evolution-a", comparators=searched)]))["Chosen per task"] == "subnet"
    del searched["random_search"]  # the largest, which nothing chose
    assert row(cost_table([record(search="largest-a", comparators=searched)]))["Chosen per task"] == "nothing"
    other = row(cost_table([record(method="plugin", label="Plugin")]), "Plugin")
    assert (other["Chosen per task"], other["Knobs"]) == ("nothing", "-")


def test_tables_say_that_hyper_parameters_were_chosen_on_val200():
    assert row(build_table([record(hparams="val_grid")]))["Remarks"] == "hyper-parameters chosen on val200"


def test_a_tuned_winner_is_a_row_of_its_own_with_its_comparators_and_cost():
    compared = COMPARED | {"untuned": {"test": 0.80}, "scratch": {"test": 0.75}}
    tuned = record(test=0.9, form="sandwich, tuned 30 epochs", comparators=compared, val_accuracy=0.82,
                   tuning_seconds=12.0, recipe="aaaa0000", epochs=60)  # fmt: skip
    table = search_table([record(test=0.7, recipe="bbbb1111", epochs=60, comparators=COMPARED), tuned])
    assert [r[0] for r in table.rows] == ["GLoRA-8-4", "GLoRA-8-4 (sandwich, tuned 30 epochs)"]
    found = row(table, "GLoRA-8-4 (sandwich")
    assert (found["Winner test"], found["Gap"]) == ("90.0", "2.0")  # what was selected had 80 on test
    notes = " ".join(table.notes)
    assert "supernet's weights has 80.0 on test" in notes and "from its initialization has 75.0 on test" in notes
    assert row(cost_table([tuned]))["Tuning (s)"] == "12"
