"""Resume files prove themselves; one that is damaged or does not fit gives way, by name, to the one before it."""

from __future__ import annotations

import logging
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
import torch

from data import DataError
from runner.rundir.checkpoints import load_checkpoint, remove_checkpoints, save_checkpoint


class Kept:
    """What a restored training holds; refuses what the test says."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def restore(self, state: dict[str, Any]) -> None:
        if state["epoch"] > 90:
            raise ValueError("epoch out of range")
        self.states.append(state)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two resume files, of epochs 1 and 2."""
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "resume.pt", {"epoch": epoch, "w": torch.full((50,), float(epoch))})
    return tmp_path / "resume.pt"


def test_the_newest_counts_and_is_what_torch_reads(path, caplog):
    kept = Kept()
    assert load_checkpoint(path, kept.restore) and kept.states[0]["epoch"] == 2 and not caplog.records
    assert torch.load(path, weights_only=True)["epoch"] == 2
    path.with_name("other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(path.with_name("other").stat().st_mode)
    assert not load_checkpoint(path.with_name("absent.pt"), kept.restore)


def test_no_flipped_bit_is_continued_from(path, caplog):
    whole, before, rng = path.read_bytes(), path.with_name("resume.pt.previous").read_bytes(), random.Random(0)
    for _ in range(200):
        bit = rng.randrange(8 * len(whole))
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        path.with_name("resume.pt.previous").write_bytes(before)
        kept = Kept()
        caplog.clear()
        assert load_checkpoint(path, kept.restore)
        (state,) = kept.states
        if state["epoch"] == 2:  # the digest's own mark: all that it is about is whole
            assert torch.equal(state["w"], torch.full((50,), 2.0))
        else:
            assert f"{path} cannot be continued" in caplog.text and "digest" in caplog.text


@pytest.mark.parametrize("damage", ["cut", "odd", "empty"])
def test_what_cannot_be_continued_is_named_and_the_one_before_it_takes_its_place(path, caplog, damage):
    before = path.with_name("resume.pt.previous")
    if damage == "odd":
        path.unlink()
        save_checkpoint(path, {"epoch": 99})
    else:
        path.write_bytes(path.read_bytes()[:100] if damage == "cut" else b"")
    kept = Kept()
    with caplog.at_level(logging.WARNING):
        assert load_checkpoint(path, kept.restore)
    assert kept.states[0]["epoch"] == 1
    assert f"{path} cannot be continued" in caplog.text and f"going on from {before}" in caplog.text
    assert torch.load(path, weights_only=True)["epoch"] == 1 and not before.exists()


def test_where_none_fits_all_begins_anew_and_is_said(path, caplog):
    for _ in range(2):
        save_checkpoint(path, {"epoch": 99})
    kept = Kept()
    assert not load_checkpoint(path, kept.restore) and not kept.states
    assert "going on from" in caplog.records[0].message and "beginning anew" in caplog.records[1].message


def test_resume_files_of_earlier_versions_are_continued(tmp_path):
    torch.save({"epoch": 4}, tmp_path / "resume.pt")
    kept = Kept()
    assert load_checkpoint(tmp_path / "resume.pt", kept.restore) and kept.states == [{"epoch": 4}]


def test_a_pipe_is_not_waited_for_and_a_link_not_written_through(tmp_path):
    os.mkfifo(tmp_path / "resume.pt")
    with pytest.raises(DataError, match="is a named pipe"):
        load_checkpoint(tmp_path / "resume.pt", print)
    (tmp_path / "resume.pt").unlink()
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "resume.pt").symlink_to(tmp_path / "precious")
    save_checkpoint(tmp_path / "resume.pt", {"epoch": 1})
    assert (tmp_path / "precious").read_text() == "mine"
    assert torch.load(tmp_path / "resume.pt", weights_only=True) == {"epoch": 1}


def test_a_finished_training_leaves_none(path):
    path.with_name(f".resume.pt.{'0' * 16}.part").touch()
    remove_checkpoints(path)
    assert not list(path.parent.iterdir())
