"""Imports go one way: scripts -> runner -> {glora, data}; the test split has one door."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "glora": {"data", "runner", "hydra", "omegaconf", "wandb", "rich", "matplotlib"},
    "data": {"glora", "runner", "hydra", "omegaconf", "wandb"},
    "runner": {"train", "search", "evaluate", "prepare", "export"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield (node.module or "").partition(".")[0]


def test_dependency_direction():
    offenders, checked = [], 0
    for package, forbidden in FORBIDDEN.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            checked += 1
            offenders += [f"{path.relative_to(ROOT)} imports {name}" for name in set(imports(path)) & forbidden]
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
    assert not offenders and checked >= 35


def test_the_test_split_is_loaded_in_one_place_and_asked_for_by_the_declared_stages_alone():
    users = {}
    for path in sorted((ROOT / "runner").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                users.setdefault(node.func.id, set()).add(path.name)
    assert users["load_split"] == {"build.py"} and users["load_own"] == {"build.py", "data.py"}
    bench = (ROOT / "runner" / "bench" / "data.py").read_text()
    assert bench.count("load_own(own, ") == bench.count('load_own(own, "train800", ') == 2  # of images it made itself
    assert users["test_split"] == {"training.py", "searching.py", "measuring.py"}
    assert users["target_splits"] == {"measuring.py"} and users["load_shots"] == {"build.py"}
    for name in ("training.py", "searching.py"):
        source = (ROOT / "runner" / name).read_text()
        calls = [line for line in source.splitlines() if "test_split(c)" in line]
        assert len(calls) == 1 and "reference" in calls[0].lower()
    for path in (ROOT / "tools").glob("*.py"):
        named = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not named & {"test_split", "target_splits"}
