"""A run directory is one process's at a time, on one machine or on many that share the disk: a lease with a heartbeat.

Leases are files `.lease-<number>` whose numbers only grow. The highest is the present one; whoever wants the folder
after it makes the next number, which one process alone can, on NFS too, and no kernel's lock is asked. A lease ends
when its holder says so, when its process is gone (told at once on the same machine), or when its heartbeat stays away
for `MISSED` seconds by the watcher's own monotonic clock: clocks of machines need not agree. A holder that was stopped
for as long finds a higher number at its next beat, and stops.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
import re
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from data.files import TEMPORARY, read_bytes, regular
from glora.typed import Count, Typed, parse
from runner.config.errors import ConfigError

log = logging.getLogger(f"glora.{__name__}")

BEAT = 5.0
"""Seconds between two beats."""
MISSED = 60.0
"""Seconds without a beat after which another machine's lease has ended."""
WORDS = 512
"""Bytes of a lease, which is renewed in place: network file systems show a changed file sooner than another one."""
JUST_NOW = "another process, which began just now"
_NAME = re.compile(r"\.lease-(\d+)$")


class Held(ConfigError):
    """Another process that lives has the folder."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder, self.owner = folder, owner
        super().__init__(f"{folder} is in use by {owner}; wait for it or change a word such as seed=1")


class Owner(Typed):
    """What a lease says.

    Attributes:
        machine: a name that only processes which see one another share.
        host: its name for people.
        process: the number of the process there.
        started: when that began, in the kernel's ticks; 0 where nothing tells.
        token: of this holding.
        beat: how often it was renewed.
        released: whether its holder is done.
    """

    machine: str
    host: str
    process: Count
    started: Count
    token: str
    beat: Count
    released: bool

    def __str__(self) -> str:
        here = "" if self.machine == machine() else f" of {self.host}"
        return f"process {self.process}{here}"


def host() -> str:
    """This machine's name: GLORA_HOST, where machines of one disk share a name, else the system's."""
    return os.environ.get("GLORA_HOST") or platform.node() or "a machine without a name"


@functools.cache
def _kernel() -> str:
    """The boot and the process numbers of this machine: containers have their own, and a restart begins anew."""
    found = []
    with contextlib.suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        found.append(os.readlink("/proc/self/ns/pid"))
    return "/".join(found)


def machine() -> str:
    """What processes share that can see whether one of them lives."""
    return f"{host()}/{_kernel()}"


def _started(process: int) -> int:
    """When the process began, which tells it from a later one of its number; 0 where the system does not say."""
    try:
        # The name in brackets may hold blanks and brackets.
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0


def _lives(owner: Owner) -> bool:
    """Whether a process of this machine is there."""
    try:
        os.kill(owner.process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        pass
    return owner.process > 0 and owner.started in (0, _started(owner.process))


def _ended(owner: Owner) -> bool:
    """Whether one look tells that a lease has ended."""
    return owner.released or (owner.machine == machine() and not _lives(owner))


def _leases(folder: Path) -> list[tuple[int, Path]]:
    """The leases of a folder by number."""
    found = ((_NAME.match(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _content(path: Path) -> bytes | None:
    """None where the file is gone, since somebody has the next number."""
    with contextlib.suppress(FileNotFoundError):
        return read_bytes(path)
    return None


def _read(content: bytes | None) -> Owner | None:
    """What a lease says; None where it is none."""
    try:
        return parse(Owner.model_validate_json, content or b"")
    except ValueError:
        return None


def owner_of(folder: Path) -> Owner | None:
    """Who has the folder, as far as one look tells; None if nobody, or a process of this machine that is gone."""
    leases = _leases(folder) if folder.is_dir() else []
    owner = _read(_content(leases[-1][1])) if leases else None
    return None if owner is None or _ended(owner) else owner


class _Lease:
    """A lease that this process holds, renewed by a thread until it is released."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.path = folder, folder / f".lease-{number}"
        self.owner = Owner(machine=machine(), host=host(), process=os.getpid(), started=_started(os.getpid()),
                           token=secrets.token_hex(8), beat=0, released=False)  # fmt: skip
        self.depth = 1
        self._done = threading.Event()
        self._make()
        self._beats = threading.Thread(target=self._keep, name=f"lease of {folder}", daemon=True)
        self._beats.start()

    def _make(self) -> None:
        """Make the file, whole at once. Raises FileExistsError where the number is taken."""
        part = self.path.with_name(f"{self.path.name}.{self.owner.token}{TEMPORARY}")
        try:
            with open(part, "xb", buffering=0, opener=regular) as stream:
                self._write(stream)
            try:
                os.link(part, self.path)
            except (FileExistsError, FileNotFoundError):  # the latter: who has the folder cleared it away
                raise
            except OSError:  # a file system without hard links: others may see the file empty for a moment
                with open(self.path, "xb", buffering=0, opener=regular) as stream:
                    self._write(stream)
        finally:
            part.unlink(missing_ok=True)

    def _write(self, stream: FileIO) -> None:
        stream.seek(0)
        stream.write(self.owner.model_dump_json().encode().ljust(WORDS))
        os.fsync(stream.fileno())

    def _renew(self, **changed: int | bool) -> None:
        self.owner = self.owner.model_copy(update=changed)
        with open(self.path, "rb+", buffering=0, opener=regular) as stream:
            self._write(stream)

    def _keep(self) -> None:
        while not self._done.wait(BEAT):
            try:
                if _leases(self.folder)[-1][1] != self.path:
                    log.error("%s was taken over while this process stood still; it ends", self.folder)
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                self._renew(beat=self.owner.beat + 1)
            except (OSError, IndexError) as error:  # the folder is gone, or the disk for a moment
                log.warning("the lease of %s could not be renewed (%s)", self.folder, error)

    def release(self) -> None:
        """Leave the folder to others."""
        self._done.set()
        self._beats.join()
        with contextlib.suppress(OSError):  # a folder that was deleted is nobody's
            self._renew(released=True)


_held: dict[Path, _Lease] = {}
_guard = threading.RLock()


@contextmanager
def leased(folder: Path) -> Iterator[None]:
    """Hold an existing folder for this process; within it, again at no cost.

    Another machine's lease is watched until it shows a beat or has ended.

    Raises:
        Held: if a living process has it.
        OSError: if the folder cannot be written.
    """
    key = folder.resolve()
    with _guard:
        lease = _held.get(key)
        if lease is None:
            lease = _held[key] = _take(folder)
        else:
            lease.depth += 1
    try:
        yield
    finally:
        with _guard:
            lease.depth -= 1
            if not lease.depth:
                del _held[key]
                lease.release()


def _take(folder: Path) -> _Lease:
    leases = _leases(folder)
    number, last = leases[-1] if leases else (0, None)
    if last is not None:
        _wait(folder, last)
    try:
        lease = _Lease(folder, number + 1)
    except (FileExistsError, FileNotFoundError):
        owner = owner_of(folder)
        raise Held(folder, str(owner or JUST_NOW)) from None
    # A number that was made anew after its time: those who had it after its first holder are there already.
    if _leases(folder)[-1][0] != number + 1:
        lease.release()
        lease.path.unlink(missing_ok=True)
        raise Held(folder, JUST_NOW)
    for _, old in leases:
        old.unlink(missing_ok=True)
    return lease


def _wait(folder: Path, path: Path) -> None:
    """Return when the lease has ended. Raises Held where its holder lives."""
    watched, began, said = _content(path), time.monotonic(), False
    while time.monotonic() - began < MISSED:
        if watched is None:
            raise Held(folder, JUST_NOW)
        owner = _read(watched)
        if owner is not None and _ended(owner):
            return
        name = str(owner or "another process")
        if owner is not None and owner.machine == machine():
            raise Held(folder, name)
        if owner is not None and not said:
            log.info("%s is in use by %s; taken over after %.0f s without a beat", folder, name, MISSED)
            said = True
        time.sleep(BEAT / 10)
        now = _content(path)
        if now == watched and now and owner is None:
            return  # these are no holder's words, and nobody is writing them
        if now != watched:
            later = _read(now)
            if owner is not None and not (later is not None and later.released):
                raise Held(folder, name)
            watched, began = now, time.monotonic()
