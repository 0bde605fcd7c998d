"""No test reaches a network or an account, and none hands its log's settings to the next."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from vtab_raw import MAKERS

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_SILENT", "true")


@pytest.fixture(autouse=True)
def _log_as_it_came() -> Iterator[None]:
    """A command that runs inside the test's process points the log at the output of that test alone."""
    log = logging.getLogger("glora")
    before = log.handlers[:], log.level, log.propagate
    yield
    log.handlers[:], log.level, log.propagate = before


@pytest.fixture(scope="session")
def raw_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small raw archives of all data sets but sun397; not to be changed."""
    root = tmp_path_factory.mktemp("raw")
    for name, make in MAKERS.items():
        make(root / name)
    return root
