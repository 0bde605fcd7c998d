"""Raw archives in small, for every test of what reads them."""

from pathlib import Path

import pytest

from tests.helpers.vtab_raw import MAKERS


@pytest.fixture(scope="session")
def raw_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small raw archives of all data sets but sun397; not to be changed."""
    root = tmp_path_factory.mktemp("raw")
    for name, make in MAKERS.items():
        make(root / name)
    return root
