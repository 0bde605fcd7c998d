"""No test reaches a network or an account."""

import os
from pathlib import Path

import pytest
from vtab_raw import MAKERS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_SILENT", "true")


@pytest.fixture(scope="session")
def raw_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small raw archives of all data sets but sun397; not to be changed."""
    root = tmp_path_factory.mktemp("raw")
    for name, make in MAKERS.items():
        make(root / name)
    return root
