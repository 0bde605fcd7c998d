"""`prepare.py`: what it makes, what it shows, what it asks for, and wrong overrides."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess

import pytest

from data import TASKS
from tests.helpers.commands import forked


def run_prepare(*overrides: str) -> CompletedProcess[str]:
    return forked(["prepare.py", *overrides])


def test_prepare_makes_mini_and_shows_status(tmp_path: Path) -> None:
    made = run_prepare("dataset=digits,shapes_orientation", f"data_root={tmp_path}")
    assert made.returncode == 0, made.stderr
    assert sorted(p.name for p in (tmp_path / "mini").iterdir()) == ["digits.safetensors",
                                                                     "shapes_orientation.safetensors"]  # fmt: skip
    table = run_prepare(f"data_root={tmp_path}")
    assert table.returncode == 0
    lines = {line.split()[0]: line for line in table.stdout.splitlines()}
    assert set(TASKS) <= set(lines)
    assert " ready " in lines["digits"] and " missing " in lines["textures"]
    assert " missing " in lines["svhn"] and "0.25 GB to download" in lines["svhn"]
    assert f"put NWPU-RESISC45 into {tmp_path}/raw/resisc45" in lines["resisc45"] and " manual " in lines["resisc45"]


def test_prepare_says_what_vtab_needs(tmp_path: Path) -> None:
    result = run_prepare("dataset=resisc45", f"data_root={tmp_path}")
    assert result.returncode == 1 and "missing" in result.stderr and "Traceback" not in result.stderr
    assert f"{tmp_path}/raw/resisc45" in result.stdout and "vtab-1k" in result.stdout
    result = run_prepare("dataset=caltech101", f"data_root={tmp_path}")
    assert result.returncode == 1 and "unsorted directory listing" in result.stderr


@pytest.mark.parametrize(("source", "below"), [("noah", ""), ("tfds", ""), ("raw", "/resisc45")])
def test_what_prepare_asks_for_belongs_into_the_typed_source_root(tmp_path: Path, source: str, below: str) -> None:
    typed = (f"source={source}", f"source_root={tmp_path}/typed", f"data_root={tmp_path}/data")
    result = run_prepare("dataset=resisc45", *typed)
    (advice,) = (x for x in result.stdout.splitlines() if f" source={source} " in x)
    assert result.returncode == 1 and advice.endswith(f" in {tmp_path}/typed{below}")
    (line,) = (x for x in run_prepare(*typed).stdout.splitlines() if x.startswith("resisc45"))
    assert f"{tmp_path}/typed" in line and f"{tmp_path}/data" not in line
    (tmp_path / "typed" / "cifar").mkdir(parents=True)
    if source == "noah":
        assert f"prepare.py dataset=cifar100 {typed[0]} {typed[1]}" in run_prepare(*typed).stdout


@pytest.mark.parametrize(
    ("override", "expected"),
    [("dataset=digit", "Did you mean digits"), ("sweep=minis", "Did you mean mini"), ("datset=digits", "dataset="),
     ("digits", "dataset=digits"), ("dataset=", "dataset=digits"), ("shots=4", "type dataset.shots=4"),
     ("list_seed=0", "type dataset.list_seed=0"), ("size=64", "type backbone.image_size=64"),
     ("source=kaggle", "raw, tfds, noah"), ("download=maybe", "auto, yes, no"), ("dataset=digits,digit", "digits")],
)  # fmt: skip
def test_a_mistake_for_prepare_is_one_line(override: str, expected: str) -> None:
    result = run_prepare(override)
    assert result.returncode == 2 and expected in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and not result.stdout
