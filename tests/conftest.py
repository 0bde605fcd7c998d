"""No test reaches a network or an account, and none hands its log's settings to the next."""

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # the processes share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_SILENT", "true")
pytest.register_assert_rewrite("tests.helpers")  # so that an assert of a helper shows its values too


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test logs of names that are no UTF-8 goes from one process to another, which takes UTF-8 alone."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _log_as_it_came() -> Iterator[None]:
    """A command that runs inside the test's process points the log at the output of that test alone."""
    log, root = logging.getLogger("glora"), logging.getLogger()
    level, handlers = log.level, root.handlers[:]
    yield
    logging.captureWarnings(False)
    log.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small runs keep their data: made once, by the first of them."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def small_shots(tmp_path: Path) -> Iterator[Path]:
    """The few-shot table, shrunken, and a data root whose noah/ folder holds pets and ImageNet."""
    from data.shot_table import SHOT_ROWS
    from tests.helpers.small_shots import make_set, shrink

    kept = dict(SHOT_ROWS)
    shrink()
    for name in ("oxford_pets_fs", "imagenet_16shot"):
        make_set(SHOT_ROWS[name], tmp_path / "noah")
    yield tmp_path
    SHOT_ROWS.update(kept)
