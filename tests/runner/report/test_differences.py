"""Differences between rows by hand: pairs, intervals over tasks, the reference, and the published values."""

from __future__ import annotations

import pytest

from runner.report.differences import difference, interval
from runner.report.published import TABLE1, TABLE5, VTAB_ORDER
from runner.report.render import to_markdown
from runner.report.tables import build_table
from tests.helpers.records import record, row, rows


def test_differences_are_of_pairs_and_their_intervals_of_resampled_tasks() -> None:
    theirs = rows([0.5] * 6)
    ours = rows([0.51, 0.52, 0.53, 0.54, 0.55, 0.56])
    found = difference(ours, theirs)
    assert found is not None
    mean, between = found.split(" ", 1)
    low, high = (float(x) for x in between.strip("()").split(" to "))
    # The mean of six draws of 1 to 6 has mean 3.5 and sd sqrt(35/12/6) = 0.70.
    assert mean == "+3.5"
    assert low == pytest.approx(3.5 - 1.96 * 0.70, abs=0.2) and high == pytest.approx(7 - low, abs=0.2)
    # A seed that only one of them has is no pair, a task weighs the same however many seeds it has.
    assert difference([*ours, record("digits", 0.99, seed=1)], theirs) == found
    more = difference([*ours, record("digits", 0.53, seed=1)], [*theirs, record("digits", 0.5, seed=1)])
    assert more is not None and more.startswith("+3.7")  # digits: (1 + 3) / 2 = 2
    assert difference(rows([0.6] * 6), theirs) == "+10.0" and difference(ours, rows([0.5] * 6, seed=3)) is None
    assert difference([record(test=None)], theirs) is None and difference(theirs, [record(test=None)]) is None
    assert interval([]) is None


def test_rows_are_compared_with_lora_or_the_first_row_and_no_row_with_itself() -> None:
    lora = rows([0.7] * 6, method="lora", label="LoRA")
    table = build_table([*rows([0.72] * 6), *lora, *rows([0.6] * 6, method="full", label="Full")])
    cells = [row(table, name)["vs LoRA"] for name in ("GLoRA", "LoRA", "Full")]
    assert cells == ["+2.0", "-", "-10.0"] and "vs published" not in table.header
    assert any("resampled tasks" in note for note in table.notes)
    other = build_table([*rows([0.72] * 6), *rows([0.6] * 6, method="full", label="Full")])
    assert row(other, "Full")["vs GLoRA-8-4"] == "-12.0"
    assert not any("vs" in title for title in build_table(lora).header)
    # A form of LoRA that is no plain one does not stand for it.
    form = build_table([*rows([0.72] * 6), *rows([0.7] * 6, method="lora", label="LoRA", form="tuned")])
    assert "vs GLoRA-8-4" in form.header


def vtab(gain: float, suite_tasks: tuple[str, ...] = VTAB_ORDER, **changes: object) -> list[dict]:
    """GLoRA-8-4 with so many points more than the paper prints, on ViT-B/16 under the comparable protocol."""
    paper = TABLE1.of("GLoRA-8-4")
    assert paper is not None
    base = {"suite": "vtab", "backbone": "vit_b16_in21k", "protocol": "clean_1000"}
    return [record(t, (paper.tasks[t] + gain) / 100, **base | changes) for t in suite_tasks]


def test_ours_stands_beside_published_where_method_backbone_and_protocol_are_the_same() -> None:
    table = build_table([*vtab(1.5), *vtab(9.0, label="LoRA", method="lora", form="tuned")])
    ours, own_form, paper = (row(table, *which) for which in (("GLoRA-8-4", 1), ("LoRA (tuned)",), ("GLoRA-8-4", 0)))
    assert ours["vs published"] == "+1.5" and ours["Average"] == "79.5"
    assert own_form["vs published"] == "-" == paper["vs published"]
    chosen = build_table([*vtab(1.5, form="by probability"), *vtab(2.5, form="by loss, tuned 30 epochs")])
    assert row(chosen, "GLoRA-8-4 (by probability)")["vs published"] == "+1.5"
    assert row(chosen, "GLoRA-8-4 (by loss, tuned 30 epochs)")["vs published"] == "-"
    assert "vs published" not in build_table(vtab(1.5, protocol="clean")).header
    assert "vs published" not in build_table(vtab(1.5, backbone="vit_micro")).header
    some = build_table(vtab(1.0, VTAB_ORDER[:2], seed=0) + vtab(2.0, VTAB_ORDER[:2], seed=1))
    assert row(some, number=1)["vs published"] == "+1.5"
    assert "| +1.5 |" in to_markdown(some)


def test_a_published_row_without_tasks_is_compared_in_its_average() -> None:
    records = [record(t, 0.8, suite="vtab", backbone="swin_b_in22k", protocol="clean_1000") for t in VTAB_ORDER]
    assert TABLE5.of("GLoRA-8-4") == TABLE5.of("GLoRA") and TABLE5.of("LoRA") is None
    assert row(build_table(records))["vs published"] == "+1.9"  # 80.0 against 78.1
    assert row(build_table(records[1:]))["vs published"] == "-"


@pytest.mark.parametrize(("label", "printed"), [("FacT-TK", 75.6), ("VPT-Deep", 72.0), ("GLoRA-2", 77.3)])
def test_labels_find_their_printed_rows(label: str, printed: float) -> None:
    found = TABLE1.of(label)
    assert found is not None and found.average == printed and TABLE1.of("FacT-TT") is None
