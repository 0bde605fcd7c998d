"""Resumable downloads of archives whose size and checksum are known."""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from pathlib import Path

from data.archives import CHUNK, Archive
from data.base import DataError
from data.files import regular


def fetch(
    file: Archive,
    folder: Path,
    *,
    attempts: int = 4,
    timeout: float = 30.0,
    pause: float = 2.0,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> Path:
    """Download into `folder`; what is there is kept, a part is resumed, the checksum decides.

    A cut-off or stalled (`timeout` seconds without a byte) transfer is tried again from where it stopped. A reply of
    another length and a web page (login, quota) are not written; a part that the server cannot go on from, or that is
    a web page, is dropped.

    Raises:
        DataError: if the server refuses or offers something else, after `attempts` failures without a new byte, or on
            a wrong checksum.
    """
    path = folder / file.name
    if path.is_file() and path.stat().st_size == file.size:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    part, failures, restarted = path.with_name(f"{path.name}.part"), 0, False
    by_hand = f"fetch it by hand and put it at {path}"
    if part.exists() and _is_page(_beginning(part)):
        part.unlink()
    while (have := part.stat().st_size if part.exists() else 0) != file.size:
        if have > file.size:
            part.unlink()
            continue
        problem: Exception | None = None
        try:
            _transfer(file, part, have, timeout, progress)
        except _OtherFile as error:
            raise DataError(f"{file.url}: {error}; {by_hand}") from error
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the server cannot go on from this part
                part.unlink(missing_ok=True)
                if not restarted:
                    restarted = True
                    continue
            raise DataError(f"{file.url}: the server answers {error.code} {error.reason}; {by_hand}") from error
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise DataError(f"{part}: no space left; free some and type the same again, it resumes") from error
            problem = error
        done = part.stat().st_size if part.exists() else 0
        failures = 0 if done > have else failures + 1
        if failures == attempts:
            cause = problem or f"it ends after {done} of {file.size} bytes"
            raise DataError(f"{file.url}: {cause}; type the same again to resume, or {by_hand}") from problem
        if problem:
            time.sleep(pause)
    found = _sha256(part)
    if found != file.sha256:
        part.unlink()
        raise DataError(f"{file.url}: its sha256 is {found}, not {file.sha256}; the file has changed or was altered on "
                        f"the way. It was removed; {by_hand}")  # fmt: skip
    part.replace(path)
    return path


class _OtherFile(Exception):
    """The server offers something else than the archive; says what."""


def _beginning(path: Path) -> bytes:
    with open(path, "rb", opener=regular) as stream:
        return stream.read(100)


def _is_page(beginning: bytes) -> bool:
    """Whether a file that begins so is a web page, which no archive is."""
    return beginning.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def _check_reply(headers: Message, beginning: bytes, resumed: bool, size: int) -> None:
    """Raise _OtherFile unless a reply can be the file of `size` bytes (`resumed`: the rest of it)."""
    length = headers.get("Content-Range", "").rpartition("/")[2] if resumed else headers.get("Content-Length", "")
    other = length.isdecimal() and int(length) != size
    typed = headers.get_content_type() in ("text/html", "application/xhtml+xml")
    if (typed and (other or not length.isdecimal())) or (not resumed and _is_page(beginning)):
        raise _OtherFile("the server sends a web page, such as one to log in or about a quota, not the file of "
                         f"{size} bytes; nothing of it was kept")  # fmt: skip
    if other:
        raise _OtherFile(f"the file there has {length} bytes, not {size}; it has changed")


def _transfer(file: Archive, part: Path, have: int, timeout: float, progress: Callable[[str, int, int], None]) -> None:
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        starts = reply.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        resumed = have > 0 and reply.status == 206 and starts
        have = have if resumed else 0  # a server without ranges sends everything again
        chunk = reply.read1(CHUNK)
        _check_reply(reply.headers, chunk, resumed, file.size)  # before the part is touched
        # Its name stays the same, since another process goes on from it.
        with open(part, "ab" if resumed else "wb", opener=regular) as stream:
            while chunk:
                stream.write(chunk)
                have += len(chunk)
                progress(file.name, have, file.size)
                chunk = reply.read1(CHUNK)


def _sha256(path: Path) -> str:
    with open(path, "rb", opener=regular) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
