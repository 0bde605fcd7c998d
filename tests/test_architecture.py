"""Imports go one way: scripts -> runner -> {glora, data}; the test split has one door; tests share helpers alone."""

import ast
from pathlib import Path

from tests.helpers import ROOT

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


def calls(path):
    """(name, call) of every plain function call of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node


def users(function):
    """The files of the runner that call a function, relative to it."""
    runner = ROOT / "runner"
    return {p.relative_to(runner).as_posix() for p in runner.rglob("*.py") if function in dict(calls(p))}


def test_the_test_split_has_one_door_and_only_the_declared_stages_ask_for_it():
    assert users("load_split") == users("load_shots") == {"stages/inputs.py"}
    assert users("load_own") == {"stages/inputs.py", "bench/data.py"}
    for name, call in calls(ROOT / "runner" / "bench" / "data.py"):
        if name == "load_own":  # of images that the benchmark made itself
            assert call.args[1].value == "train800"
    # `selection_split` opens it for a protocol that says so; its callers are the stages that select.
    # `features` draws what a finished evaluation has measured; nothing is chosen by it.
    assert users("test_split") == {"stages/evaluate.py", "stages/features.py", "stages/inputs.py"}
    assert users("target_splits") == {"stages/evaluate.py"}
    assert users("selection_split") == {"stages/train.py", "stages/search.py", "stages/evaluate.py"}
    for path in (ROOT / "tools").glob("*.py"):
        named = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
        assert not named & {"test_split", "target_splits", "selection_split"}


def test_no_stage_reads_the_config():
    for package in ("stages", "rundir", "tracking", "report"):
        for path in (ROOT / "runner" / package).glob("*.py"):
            modules = {n.module for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)}
            assert not modules & {"runner.config.schema", "runner.config.resolve"}, path


def test_protocols_are_told_apart_by_their_fields_alone():
    names = {"clean", "clean_1000", "reference_2023_06"}
    for path in (ROOT / "runner").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                texts = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
                assert not texts & names, f"{path.name}:{node.lineno}"


def test_no_test_imports_another():
    """What two of them need is a fixture of a conftest or lies in `tests/helpers`."""
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")} | {"conftest"}
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
                assert not tests & set(".".join(names).split(".")), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_folders_of_tests_mirror_the_packages():
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(folders) >= 12 and all((ROOT / folder).is_dir() for folder in folders - {Path("commands")})
