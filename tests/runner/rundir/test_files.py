"""Files of a run directory: whole or named, locked by one process."""

from __future__ import annotations

import os

import pytest

from data import DataError
from runner.config.errors import ConfigError
from runner.rundir.files import locked


def test_who_holds_a_folder_removes_what_killed_writers_left(tmp_path):
    left = ["config.json.part", "metrics.jsonl.tmp", "plots/.a.png.0123.part", "wandb/run/x.tmp"]
    for name in [*left, "plots/a.png", "resume_train800.pt"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with locked(tmp_path):
        found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == {".lease-1", "plots/a.png", "resume_train800.pt", "wandb/run/x.tmp"}


@pytest.mark.parametrize("name", ["plots", "wandb", "search/evolution"])
def test_a_folder_that_is_a_link_is_refused(tmp_path, name):
    (tmp_path / "outside").mkdir()
    link = tmp_path / "run" / name
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match=f"{link} is a link"), locked(tmp_path / "run"):
        pass


def test_leases_go_through_no_link_and_wait_for_no_pipe(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / ".lease-1").symlink_to(tmp_path / "precious")
    with locked(tmp_path / "a"):
        pass
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / ".lease-1")
    with pytest.raises(DataError, match=r"\.lease-1 is a named pipe"), locked(tmp_path / "b"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
