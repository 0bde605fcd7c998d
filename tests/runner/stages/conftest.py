"""Copies of what a module's own `finished` fixture ran once, for tests that damage them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied(finished: tuple[list[str], Path], tmp_path: Path) -> tuple[list[str], Path]:
    """The overrides of the finished run, with the output root of its copy, and that root."""
    overrides, runs = finished
    shutil.copytree(runs, tmp_path / "runs")
    return [*overrides, f"output_root={tmp_path / 'runs'}"], tmp_path / "runs"
