"""Downloads against a local server that cuts off, stalls, lies and refuses; unpacking of real archives."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from data import DataError
from data.archives import ARCHIVES, Archive, unpack, unpacked
from data.download import fetch
from tests.helpers.commands import forked

CONTENT = bytes(range(256)) * 4000
PAGE = b"\n<!DOCTYPE html><html><title>Sign in</title>" + b"x" * 1100 + b"</html>"


class Server(ThreadingHTTPServer):
    """Serves CONTENT; `mode` says how badly, `asked` keeps the Range header of every request."""

    mode = "good"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []
        self.release = threading.Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        wanted, mode = self.headers.get("Range"), self.server.mode
        self.server.asked.append(wanted)
        if mode == "missing":
            return self.send_error(404)
        if mode.startswith("page"):
            self.send_response(200)
            if "untyped" not in mode:
                self.send_header("Content-Type", "text/html; charset=utf-8")
            if "of the right length" in mode:
                self.send_header("Content-Length", str(len(CONTENT)))
            elif "of no length" not in mode:
                self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE.ljust(len(CONTENT)) if "of the right length" in mode else PAGE)
            return None
        if mode == "refuses ranges" and wanted:
            return self.send_error(416)
        ranges = wanted and mode not in ("no ranges", "no length")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        if mode != "no length":
            self.send_header("Content-Length", str(len(CONTENT) - start))
        if mode == "typed as a page":
            self.send_header("Content-Type", "text/html")
        self.end_headers()
        stop = len(CONTENT)
        if mode == "cut" or (mode == "stall once" and len(self.server.asked) == 1):
            stop = min(stop, start + 300_000)
        if mode == "stall":
            stop = start
        self.wfile.write(CONTENT[start:stop])
        self.wfile.flush()
        if "stall" in mode and stop < len(CONTENT):
            self.server.release.wait(20)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.release.set()
    made.shutdown()


def archive(server: Server, **changes: Any) -> Archive:
    url = f"http://127.0.0.1:{server.server_address[1]}/folder/data.bin?raw=true"
    return Archive(url, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())._replace(**changes)


def test_a_download_is_verified_and_not_repeated(server: Server, tmp_path: Path) -> None:
    path = fetch(archive(server), tmp_path)
    assert path == tmp_path / "data.bin" and path.read_bytes() == CONTENT
    fetch(archive(server), tmp_path)
    assert server.asked == [None] and list(tmp_path.iterdir()) == [path]


def test_cut_offs_resume_where_they_stopped(server: Server, tmp_path: Path) -> None:
    server.mode = "cut"
    assert fetch(archive(server), tmp_path, pause=0).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


def test_a_stopped_download_resumes_in_the_next_run(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-"]


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.mode = "no ranges"
    (tmp_path / "data.bin.part").write_bytes(b"x" * 1000)
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT


def test_a_stall_is_tried_again_and_in_the_end_an_error(server: Server, tmp_path: Path) -> None:
    server.mode = "stall once"
    assert fetch(archive(server), tmp_path, timeout=0.3, pause=0).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-"]
    (tmp_path / "data.bin").unlink()
    server.mode = "stall"
    with pytest.raises(DataError, match="timed out.*resume, or fetch it by hand"):
        fetch(archive(server), tmp_path, timeout=0.2, pause=0, attempts=3)


def test_wrong_content_and_refusals_are_errors_that_name_the_place(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"its sha256 is .*{tmp_path}/data.bin"):
        fetch(archive(server, sha256="0" * 64), tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match=f"has {len(CONTENT)} bytes, not {len(CONTENT) + 1}; it has changed; fetch it"):
        fetch(archive(server, size=len(CONTENT) + 1), tmp_path)
    assert not list(tmp_path.iterdir()) and len(server.asked) == 2
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DataError, match=f"has {len(CONTENT)} bytes, not {len(CONTENT) + 1}; it has changed"):
        fetch(archive(server, size=len(CONTENT) + 1), tmp_path)
    assert (tmp_path / "data.bin.part").read_bytes() == CONTENT[:1000]
    server.mode = "no length"
    with pytest.raises(DataError, match="ends after"):
        fetch(archive(server, size=len(CONTENT) + 1), tmp_path, pause=0, attempts=2)
    (tmp_path / "data.bin.part").unlink()
    server.mode = "missing"
    with pytest.raises(DataError, match="404 Not Found; fetch it by hand"):
        fetch(archive(server), tmp_path)
    assert len(server.asked) <= 7


@pytest.mark.parametrize(
    "mode", ["page", "page untyped", "page of no length", "page untyped of no length", "page of the right length"]
)
def test_a_web_page_in_place_of_the_file_is_not_kept(server: Server, tmp_path: Path, mode: str) -> None:
    server.mode, part = mode, tmp_path / "data.bin.part"
    for held in (b"", CONTENT[:1000]):
        if held:
            part.write_bytes(held)
        with pytest.raises(DataError, match=rf"the server sends a web page.*by hand and put it at {tmp_path}/data.bin"):
            fetch(archive(server), tmp_path)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == ([held] if held else [])
    assert server.asked == [None, "bytes=1000-"]
    server.mode = "good"
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_called_a_page_is_kept(server: Server, tmp_path: Path) -> None:
    server.mode = "typed as a page"
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_a_web_page_is_dropped(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data.bin.part").write_bytes(PAGE)
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_part_that_the_server_cannot_go_on_from_is_dropped(server: Server, tmp_path: Path) -> None:
    server.mode = "refuses ranges"
    (tmp_path / "data.bin.part").write_bytes(CONTENT[:1000])
    assert fetch(archive(server), tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".zip", ".h5.gz"])
def test_archives_are_unpacked_in_place(tmp_path: Path, suffix: str) -> None:
    file, path = Archive(f"http://x/a{suffix}", 0, ""), tmp_path / f"a{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            packed.writestr("inner/b.txt", CONTENT)
    elif suffix == ".h5.gz":
        path.write_bytes(gzip.compress(CONTENT))
    else:
        with tarfile.open(path, "w:gz" if suffix == ".tgz" else "w") as packed:
            info = tarfile.TarInfo("inner/b.txt")
            info.size = len(CONTENT)
            packed.addfile(info, io.BytesIO(CONTENT))
    assert not unpacked(file, tmp_path)
    unpack(file, tmp_path)
    assert unpacked(file, tmp_path)
    assert (tmp_path / ("a.h5" if suffix == ".h5.gz" else "inner/b.txt")).read_bytes() == CONTENT
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(file, tmp_path)


def test_a_member_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("../evil.txt"), io.BytesIO())
    with pytest.raises(DataError, match="evil"):
        unpack(Archive("http://x/a.tar.gz", 0, ""), tmp_path)


def test_big_downloads_have_to_be_asked_for(tmp_path: Path) -> None:
    overrides = ["dataset=clevr_count", f"data_root={tmp_path}"]
    done = forked(["prepare.py", *overrides])
    assert done.returncode == 1 and "download=yes" in done.stderr and "19.02 GB" in done.stdout
    assert not (tmp_path / "raw").exists()


def test_every_archive_has_a_checksum_and_a_name_of_its_own() -> None:
    for files in ARCHIVES.values():
        assert len({f.name for f in files}) == len(files)
        assert all(len(f.sha256) == 64 and f.size > 0 and f.url.startswith("http") for f in files)
