"""The first table after an evaluation: at most 80 columns, numbers as in the long table, one line on the searches."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from data import SUITES
from runner.report.compact import compact_table, print_compact, searches_line, thousands
from runner.report.tables import build_table
from tests.helpers.records import MINI, record, row


def printed(records: list[dict]) -> list[str]:
    stream = io.StringIO()
    print_compact(compact_table(records), Console(file=stream, width=200))
    return stream.getvalue().splitlines()


def test_six_tasks_a_long_name_and_a_full_fine_tuning_fit_80_columns() -> None:
    long = "GLoRA-8-4 (sandwich, by loss, up to 34 %, tuned 30 epochs)"
    records = [record(t, 1.0, label=long, params=85_798_656) for t in MINI] + [record(t, label="LoRA") for t in MINI]
    lines = printed(records)
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(line[:24] for line in lines).split())
    assert long in text  # broken, never cut
    assert sum("100.0  100.0  100.0" in " ".join(line.split()).replace(" ", "  ") for line in lines) == 1
    assert any(line.endswith("85.8M") for line in lines)


def test_more_tasks_than_fit_are_shown_as_groups() -> None:
    table = compact_table([record(t, 0.5, suite="vtab") for t in SUITES["vtab"]])
    assert table.header == ["Method", "Nat", "Spec", "Struct", "Avg", "Params"]
    assert table.rows[0][1:5] == ["50.0"] * 4


def test_its_numbers_are_those_of_the_long_table() -> None:
    records = [record(t, 0.1 * i + 0.01 * s, seed=s, params=1000 * (i + 1)) for i, t in enumerate(MINI) for s in (0, 1)]
    long, short = row(build_table(records)), compact_table(records)
    cells = dict(zip(short.header, short.rows[0], strict=True))
    assert cells["Avg"] == long["Average"]
    assert cells["Textures"] == long["Textures"].partition(" ")[0]
    assert cells["Params"] == thousands(float(long["Params"].replace(",", "")))


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0, "0"), (856, "856"), (8704, "8.70k"), (82172, "82.2k"), (1223040, "1.22M")]
)
def test_counts_are_short(value: float | None, text: str) -> None:
    assert thousands(value) == text


def test_a_search_is_compared_with_random_search_on_the_same_images() -> None:
    assert searches_line([record()]) is None
    plain = record(test=0.90, comparators={"random_search": {"test": 0.88}})
    few = record(test=0.99, comparators={"random_search": {"test": 0.80}, "winner": {"test": 0.79}})
    tuned = record(test=0.95, comparators={"random_search": {"test": 0.90}, "untuned": {"test": 0.91}})
    line = searches_line([plain, few, tuned])
    assert line is not None and "+0.7 points (-1.0 to +2.0)" in line and "3 runs" in line
