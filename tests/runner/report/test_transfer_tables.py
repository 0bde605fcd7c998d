"""Few-shot and domain-generalisation tables: shape, hand-computed means, published numbers read off the paper."""

import pytest

from data import SHOTS
from runner.report.plots_few_shot import plot_few_shot
from runner.report.published_transfer import DOMAIN, FEW_SHOT, FEW_SHOT_SETS
from runner.report.show import show, tables
from runner.report.transfer_tables import few_shot_curves, suite_tables
from tests.helpers.figures import count, pixels
from tests.helpers.records import record, row


def few_shot(dataset, shots, test, list_seed=0, **changes):
    values = {"suite": "few_shot", "shots": shots, "list_seed": list_seed, "augmentation": "timm"}
    return record(dataset, test, **{"backbone": "vit_b16_in21k", "params": 100} | values | changes)


def domain(test, targets, list_seed=0, **changes):
    names = ("imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r")
    values = {"suite": "domain_generalization", "shots": 16, "list_seed": list_seed, "class_subset": "none"}
    values["targets"] = dict(zip(names, targets, strict=True))
    return record("imagenet_16shot", test, **values | changes)


def test_published_numbers_are_those_of_figure_2_and_table_2():
    assert set(FEW_SHOT) == {"GLoRA", "NOAH", "VPT", "LoRA", "Adapter"}
    assert all(tuple(rows) == SHOTS and all(len(v) == 5 for v in rows.values()) for rows in FEW_SHOT.values())
    columns = list(FEW_SHOT_SETS)
    spots = [("GLoRA", 16, "stanford_cars", 74.3), ("NOAH", 1, "oxford_flowers_fs", 88.1),
             ("VPT", 4, "fgvc_aircraft", 19.0),
             ("LoRA", 8, "oxford_pets_fs", 87.3), ("Adapter", 2, "food101", 49.0)]  # fmt: skip
    for method, shots, name, value in spots:
        assert FEW_SHOT[method][shots][columns.index(name)] == value
    sums = {m: round(sum(map(sum, rows.values())), 1) for m, rows in FEW_SHOT.items()}
    assert sums == {"GLoRA": 1531.3, "NOAH": 1475.4, "VPT": 1341.7, "LoRA": 1454.0, "Adapter": 1433.4}
    assert {m: round(sum(v), 1) for m, v in DOMAIN.items()} == {
        "Adapter": 173.6, "VPT": 174.6, "LoRA": 180.3, "NOAH": 202.8, "GLoRA-2": 220.7}  # fmt: skip
    assert DOMAIN["GLoRA-2"] == (78.3, 67.5, 30.6, 13.3, 31.0) and DOMAIN["NOAH"][2] == 24.8


def test_few_shot_rows_average_over_list_seeds_and_then_over_the_five_sets():
    records = [few_shot(s, 4, 0.5 + 0.1 * i, params=100 * i) for i, s in enumerate(FEW_SHOT_SETS)]
    records += [few_shot("food101", 4, 0.6, list_seed=1, params=0), few_shot("food101", 1, 0.2)]
    (table,) = suite_tables(records[::-1])
    assert table.header[:7] == ["Method", "Food101", "Cars", "Flowers102", "Aircraft", "Pets", "Average"]
    ours = [dict(zip(table.header, cells, strict=True)) for cells in table.rows if "8-4" in cells[0]]
    assert [r["Method"] for r in ours] == ["GLoRA-8-4, 1-shot", "GLoRA-8-4, 4-shot"]
    assert ours[1]["Food101"] == "55.0 ± 7.1" and ours[1]["Pets"] == "90.0" and ours[1]["Seeds"] == "1-2"
    assert ours[1]["Average"] == "71.0"  # (55 + 60 + 70 + 80 + 90) / 5
    assert ours[0]["Average"] == "-" and ours[0]["Cars"] == "-"
    published = row(table, "NOAH", 4)
    assert (published["Method"], published["Cars"], published["Remarks"]) == (
        "NOAH, 16-shot", "68.6", "published, not directly comparable")  # fmt: skip
    assert not any(
        "NOAH" in cells[0] for cells in suite_tables([few_shot("stanford_cars", 1, 0.1, backbone="vit_micro")])[0].rows
    )


def test_runs_with_and_without_augmentation_are_two_rows():
    (table,) = suite_tables([few_shot("stanford_cars", 1, 0.1), few_shot("stanford_cars", 1, 0.2, augmentation="none")])
    ours = [cells for cells in table.rows if cells[0].startswith("GLoRA-8-4")]
    assert sorted((c[2], c[-1]) for c in ours) == [("10.0", ""), ("20.0", "no augmentation")]


def test_domain_rows_tell_class_subsets_apart_and_average_over_list_seeds():
    records = [domain(0.7, (0.6, 0.2, 0.05, 0.2)), domain(0.8, (0.6, 0.4, 0.05, 0.2), list_seed=1)]
    records += [domain(0.7, (0.6, 0.2, 0.15, 0.4), class_subset="dataset")]
    (table,) = suite_tables([{**r, "backbone": "vit_b16_in21k"} for r in records])
    assert table.header[1:6] == ["ImageNet", "V2", "Sketch", "A", "R"]
    ours = [cells for cells in table.rows if cells[0].startswith("GLoRA-8-4")]
    assert ours[0][1:6] == ["75.0 ± 7.1", "60.0 ± 0.0", "30.0 ± 14.1", "5.0 ± 0.0", "20.0 ± 0.0"]
    assert (ours[0][8], ours[1][8]) == ("all 1,000", "A and R: their 200") and ours[1][4] == "15.0"
    assert row(table, "GLoRA-2")["R"] == "31.0" and ours[0][7] == "2"


def test_suites_stand_in_tables_of_their_own_and_the_figure_is_drawn(tmp_path, capsys):
    sets = [few_shot(s, n, 0.1 + 0.04 * n, list_seed=k) for s in FEW_SHOT_SETS for n in SHOTS for k in (0, 1)]
    records = [record(), *sets, domain(0.7, (0.6, 0.2, 0.05, 0.2))]
    titles = [t.title.partition(",")[0].partition(":")[0] for t in tables(records)]
    assert titles == ["mini", "few-shot", "domain generalisation", "Cost of a run"]
    written = show(records, tmp_path)
    assert written[-1] == tmp_path / "few_shot.png" and "Figure 2" in capsys.readouterr().out.replace("\n", " ")
    assert count(pixels(written[-1], (1200, 800)), "#0072B2") > 500
    assert len(show([record()], tmp_path)) == 3


def test_the_figure_draws_what_is_there_and_refuses_nothing(tmp_path):
    curves = few_shot_curves([few_shot("stanford_cars", 1, 0.3), few_shot("stanford_cars", 2, None)])
    assert curves == {"GLoRA-8-4": {"stanford_cars": {1: [0.3]}}}
    plot_few_shot(curves, tmp_path / "one.png")
    with pytest.raises(ValueError, match="no few-shot results"):
        plot_few_shot({}, tmp_path / "none.png")
