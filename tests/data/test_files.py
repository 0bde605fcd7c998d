"""What is written is whole or absent and goes through no link; what is opened is a file, and nothing is waited for."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from data import DataError
from data.files import appending, read_bytes, regular, remove_temporaries, write_bytes, write_text, writing

OTHERS: dict[str, Callable[[Path], object]] = {
    "named pipe": os.mkfifo,
    "folder": os.mkdir,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
}


@pytest.fixture(params=list(OTHERS))
def other(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Something at a path that is no file, and what it is called."""
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    OTHERS[request.param](Path("metrics.jsonl"))
    return Path("metrics.jsonl"), f"metrics.jsonl is a {request.param}, not a file; move it away"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "outside" / "precious"
    path.parent.mkdir()
    path.write_text("mine")
    return path


@pytest.mark.parametrize("use", [read_bytes, appending, lambda path: write_text(path, "x")])
def test_what_is_no_file_is_named_and_not_waited_for(use, other):
    path, message = other
    with pytest.raises(DataError, match=message):
        use(path)
    assert path.exists() and [p.name for p in Path().iterdir()] == ["metrics.jsonl"]


def test_a_device_is_not_read():
    with pytest.raises(DataError, match="/dev/zero is a device"):
        read_bytes(Path("/dev/zero"))


def test_a_link_is_read_and_replaced_but_never_written_through(tmp_path, outside):
    link = tmp_path / "config.json"
    link.symlink_to(outside)
    assert read_bytes(link) == b"mine"
    with pytest.raises(DataError, match=r"config\.json is a link"):
        appending(link)
    with pytest.raises(DataError, match=r"config\.json is a link"):
        open(link, "wb", opener=regular).close()
    write_text(link, "{}")
    assert outside.read_text() == "mine" and link.read_text() == "{}" and not link.is_symlink()


@pytest.mark.parametrize("target", ["nowhere", "itself"])
def test_links_to_nothing_and_to_themselves_are_replaced(target, tmp_path):
    link = tmp_path / "itself"
    link.symlink_to(tmp_path / target)
    with pytest.raises(OSError):
        read_bytes(link)
    with pytest.raises(DataError, match="is a link"):
        appending(link)
    write_text(link, "x")
    assert [p.name for p in tmp_path.iterdir()] == ["itself"] and link.read_text() == "x"


def test_a_link_at_a_temporary_that_was_guessed_is_not_written_through(tmp_path, outside, monkeypatch):
    monkeypatch.setattr("data.files.secrets.token_hex", lambda n: "0" * 2 * n)
    guessed = tmp_path / f".a.json.{'0' * 16}.part"
    guessed.symlink_to(outside)
    with pytest.raises(DataError, match=r"\.part is a link"):
        write_text(tmp_path / "a.json", "x")
    assert outside.read_text() == "mine" and not (tmp_path / "a.json").exists()


def test_a_file_is_absent_or_whole_and_what_failed_leaves_nothing(tmp_path):
    path = tmp_path / "made" / "a.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), writing(path) as part:
        part.write_text("half")
        assert path.read_text() == "old"
        raise KeyboardInterrupt
    assert path.read_text() == "old" and len(list(path.parent.iterdir())) == 1


def test_a_full_disk_names_the_file_and_not_its_temporary(tmp_path):
    with pytest.raises(OSError) as raised, writing(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a stream says it, which knows no name
    assert raised.value.filename == str(tmp_path / "a.json")
    with pytest.raises(OSError) as raised, writing(tmp_path / "a.json") as part:
        part.unlink()
        part.read_bytes()
    assert raised.value.filename == str(tmp_path / "a.json")


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_files_have_the_mode_that_the_umask_says(mask, tmp_path):
    before = os.umask(mask)
    try:
        write_bytes(tmp_path / "a", b"x")
        appending(tmp_path / "b").close()
    finally:
        os.umask(before)
    assert {stat.S_IMODE((tmp_path / n).stat().st_mode) for n in "ab"} == {0o666 & ~mask}


def test_what_killed_writers_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    kept = ["a.json", "b.json", ".b.json.0123.part", "xa.json.part", "a.json.previous"]
    for name in [*kept, ".a.json.0123456789abcdef.part", "a.json.part"]:
        (tmp_path / name).touch()
    remove_temporaries(tmp_path / "a.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)
    remove_temporaries(tmp_path / "absent" / "a.json")
