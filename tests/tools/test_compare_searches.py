"""The comparison of searches, through its command line."""

import json

import pytest

from glora.search import hypervolume
from tests.helpers.commands import fresh
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL, run
from tools.compare_searches import with_search


@pytest.mark.slow  # five commands
@pytest.mark.parametrize("fitness", ["accuracy", "probability"])
def test_the_comparison_runs_each_search_once_and_its_figures_follow_from_the_candidates(tmp_path, data_root, fitness):
    overrides = [*SMALL, f"search.fitness={fitness}", f"output_root={tmp_path}", f"data_root={data_root}"]
    command = ["-m", "tools.compare_searches", *overrides, "seeds=2"]
    done = fresh(command)
    assert done.returncode == 2 and "run train.py" in done.stderr and "Traceback" not in done.stderr
    assert run("train.py", tmp_path, data_root).returncode == 0
    done = fresh(command)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.rglob("comparison.json")
    record = json.loads(path.read_text())
    assert {n: len(r) for n, r in record["searches"].items()} == {"evolution": 2, "nsga2": 2, "random": 2}
    limit, floor = record["reference"]["params"], record["reference"][fitness]
    assert floor == 0.1
    for name, seeds in record["searches"].items():
        for seed, figures in zip((1, 2), seeds, strict=True):
            (file,) = tmp_path.rglob(f"search/{name}-*-seed{seed}-*/{name}.json")
            candidates = json.loads(file.read_text())["candidates"]
            rows = [(c["params"], c[fitness]) for c in candidates]
            assert figures["evaluated"] == len(rows) == 10
            assert figures[f"val_{fitness}"] == max(value for _, value in rows)
            area = hypervolume(rows, (limit, floor)) / (limit * (1 - floor))
            assert figures["hypervolume"] == pytest.approx(area) and 0 <= area < 1
    assert "Hypervolume" in (path.parent / "table.md").read_text() and (path.parent / "fronts.png").exists()
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("best.json")}
    assert fresh(command).returncode == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("best.json")} and len(stamps) == 6


def test_a_winner_that_no_search_finds_is_not_what_is_compared():
    run = resolved("dataset=digits", "trainer=mini", "search=mini", "search.winner=largest")
    plain = resolved("dataset=digits", "trainer=mini", "search=mini")
    assert with_search(run, "nsga2", 2).search == with_search(plain, "nsga2", 2).search


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["method=noah"],
        ["method=glora_plus"],
        ["search.winner=soup"],
        ["search.max_share=0.2", "search.fitness=loss"],
    ],
)
def test_the_chosen_search_is_compared_in_the_directory_that_search_py_gives_it(overrides):
    run = resolved("dataset=digits", "trainer=mini", "search=mini", *overrides)
    assert with_search(run, "evolution", 1).search.directory == run.search.directory
    others = {with_search(run, n, seed).search.directory for n in ("evolution", "nsga2", "random") for seed in (1, 2)}
    assert len(others) == 6
    plain = resolved("dataset=digits", "trainer=mini", "search=mini")
    assert (with_search(plain, "nsga2", 1).search.directory in others) == (not overrides)
