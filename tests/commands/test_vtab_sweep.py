"""VTAB sweeps through the real command line: prepare, train, search, evaluate, and Table 1 with its group means."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from data import SUITES, TASKS
from data.sources.noah import OTHER_SPELLINGS
from data.vtab_table import VTAB_BY_ID
from runner.report.tables import GROUPS
from tests.helpers.commands import forked
from tests.helpers.small_vtab import TEST, shrink
from tests.helpers.vtab_raw import write_noah

SMALL = [
    "backbone=vit_b16_in21k", "backbone.pretrained=false", "backbone.image_size=32",
    "+backbone.kwargs={img_size:32,patch_size:16,embed_dim:32,depth:1,num_heads:2}",
    "trainer=mini", "trainer.epochs=1", "trainer.max_steps=2", "search.generations=1", "search.population=3",
    "search.parents=2", "search.mutants=1", "search.crossovers=1", "logger.wandb=disabled",
]  # fmt: skip


def run(script: str, *overrides: str) -> str:
    done = forked([script, *overrides], before=shrink)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def sweep(tmp_path: Path, tasks: tuple[str, ...], overrides: tuple[str, ...], protocol: str) -> list[dict[str, str]]:
    """All stages over `tasks` from a noah folder; the rows of the accuracy table, read back from its file."""
    for task_id in tasks:
        folder = VTAB_BY_ID[task_id].noah_folder
        write_noah(tmp_path / "data" / "vtab-1k", task_id, OTHER_SPELLINGS.get(folder, folder), test=TEST)
    shared = [f"data_root={tmp_path / 'data'}"]
    assert run("prepare.py", *overrides, "source=noah", *shared).count("made from source=noah") == len(tasks)
    shared += [f"output_root={tmp_path / 'out'}", f"protocol={protocol}", *SMALL]
    for script in ("train.py", "search.py", "evaluate.py"):
        run(script, "-m", *overrides, *shared)
    # One evaluate.py without a task shows every result.
    assert "GLoRA-8-4" in run("evaluate.py", f"output_root={tmp_path / 'out'}")
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("result.json")]
    assert {r["dataset"] for r in records} == set(tasks) and len(records) == len(tasks)
    assert {(r["source"], r["protocol"]) for r in records} == {("noah", protocol)}
    # Accuracies are shares of the test images, so the small splits were measured and nothing else.
    assert all(abs(r["test_accuracy"] * TEST - round(r["test_accuracy"] * TEST)) < 1e-6 for r in records)
    first, *others = (tmp_path / "out" / "tables" / "table.csv").read_text().split("\n\n")
    assert [t.partition(":")[0] for t in others] == ["# Search", "# Cost of a run"]
    rows = list(csv.DictReader(line for line in first.splitlines() if not line.startswith("#")))
    name = "GLoRA-8-4" if protocol == "reference_2023_06" else "GLoRA-8-4 (by probability)"
    (ours,) = [row for row in rows if row["Method"] == name and row["Protocol"] == protocol]
    accuracy = {r["dataset"]: 100 * r["test_accuracy"] for r in records}
    for task_id in tasks:
        assert float(ours[TASKS[task_id].title]) == pytest.approx(accuracy[task_id], abs=0.06)
    means = []
    for group, column in GROUPS.items():
        if not set(SUITES[group]) <= set(tasks):
            assert ours[column] == ours["Average"] == "-"  # no mean of a part of a group
            continue
        means.append(sum(accuracy[t] for t in SUITES[group]) / len(SUITES[group]))
        assert float(ours[column]) == pytest.approx(means[-1], abs=0.06)
    if len(means) == len(GROUPS):
        assert float(ours["Average"]) == pytest.approx(sum(means) / 3, abs=0.06)
    return rows


def test_three_tasks_of_a_sweep_end_in_a_table_that_marks_the_published_rows(tmp_path: Path) -> None:
    tasks = ("pets", "eurosat", "kitti_dist")
    rows = sweep(tmp_path, tasks, (f"dataset={','.join(tasks)}",), "clean")
    published = [row["Remarks"] for row in rows if row["Remarks"].startswith("published")]
    assert set(published) == {"published, not directly comparable"}


@pytest.mark.slow
def test_all_19_tasks_give_the_shape_of_table_1(tmp_path: Path) -> None:
    rows = sweep(tmp_path, SUITES["vtab"], ("sweep=vtab",), "clean_1000")
    header = list(rows[0])
    titles = [TASKS[t].title for t in SUITES["vtab"]]
    assert header[1:24] == [*titles, *GROUPS.values(), "Average"]
    published = {row["Method"]: row for row in rows if row["Remarks"] == "published"}
    assert len(published) == 15 and published["GLoRA-8-4"]["Average"] == "78.0"
    assert not [row for row in rows if "comparable" in (row["Remarks"] or "")]
