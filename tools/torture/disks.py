"""A disk that is full: one clear line; with space again, the results of an undisturbed run.

`<stage>@<change>`: from a change on no file can be made or opened. `<stage>@<n>kB`: the run lies on a file system of
its own that takes so many kB more, so that writing itself fails, in C++ and Rust too; only where Linux lets a process
mount one for itself.
"""

from __future__ import annotations

import ctypes
import os
import random
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.torture.children import run
from tools.torture.points import LIMIT, again, in_order
from tools.torture.sandboxes import Sandboxes
from tools.torture.small import STAGES
from tools.torture.verdicts import GOOD, Verdict, rerun
from tools.torture.watch import full_from

NEW_USER, NEW_MOUNTS, PRIVATE, REMOUNT = 0x10000000, 0x20000, 0x44000, 0x20
LARGEST = 256
"""kB at most that a stage writes before its disk is full."""
PAGE = 4096


def names(boxes: Sandboxes, stages: Collection[str], count: int, seed: int) -> list[str]:
    """`count` full disks, evenly over the stages; every second one a file system of its own where it may."""
    rng, found, known, real = random.Random(seed), [], in_order(stages), _mounts_in_a_child()
    for i in range(count):
        stage = known[i // 2 % len(known)]
        last = boxes.undisturbed[stage].changes or 1
        found.append(
            f"{stage}@{rng.randrange(0, LARGEST, 4)}kB" if real and i % 2 else f"{stage}@{rng.randint(1, last)}"
        )
    return list(dict.fromkeys(found))


def case(boxes: Sandboxes, name: str) -> Verdict:
    """Run the stage on a full disk, then with space. Raises ValueError if `name` is none of ours."""
    found = re.fullmatch(rf"({'|'.join(STAGES)})@(\d+)(kB)?", name)
    if found is None:
        raise ValueError(f"{name} is no full disk; one is search@17 or search@64kB")
    stage, number, real = found[1], int(found[2]), bool(found[3])
    with boxes.sandbox(STAGES[stage].after) as folder:
        if not real:
            ended = run(boxes.task(stage), folder, LIMIT, before=full_from(number))
            kind, detail = ended.kind()
            then = again(boxes, stage, folder) if kind in GOOD else None
        else:
            with small_disk(folder / "out", number << 10) as place:
                kind, detail = run(boxes.task(stage), folder, LIMIT).kind()
                _mount(place, 1 << 30, REMOUNT)
                then = again(boxes, stage, folder) if kind in GOOD else None
        if then is not None and then[0] != "identical":
            kind, detail = then
    return Verdict("disk", stage, name, kind, detail, rerun("disk", name))


@contextmanager
def small_disk(place: Path, free: int) -> Iterator[Path]:
    """The files of a folder on a file system of their own with `free` bytes left; this process alone sees it."""
    _own_mounts()
    kept = place.with_name("kept")
    place.mkdir(exist_ok=True)
    shutil.copytree(place, kept)
    # A folder takes no page, a file whole ones.
    used = sum(-(-p.stat().st_size // PAGE) * PAGE for p in kept.rglob("*") if p.is_file())
    _mount(place, used + max(free, PAGE))
    try:
        shutil.copytree(kept, place, dirs_exist_ok=True)
        yield place
    finally:
        _checked(_libc.umount2(os.fsencode(place), 2), "umount")


_libc = ctypes.CDLL(None, use_errno=True)
_own: list[int] = []
"""The process that has mounts of its own: a child of it has them too."""


def _checked(result: int, call: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{call}: {os.strerror(ctypes.get_errno())}")


def _own_mounts() -> None:
    if _own == [os.getpid()]:
        return
    user, group = os.geteuid(), os.getegid()
    _checked(_libc.unshare(NEW_USER | NEW_MOUNTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _checked(_libc.mount(None, b"/", None, PRIVATE, None), "mount")
    _own[:] = [os.getpid()]


def _mount(place: Path, size: int, flags: int = 0) -> None:
    options = f"size={size},mode=755".encode()
    _checked(_libc.mount(b"tmpfs", os.fsencode(place), b"tmpfs", flags, options), "mount")


def _mounts_in_a_child() -> bool:
    """Whether a process may mount a file system for itself here."""
    pid = os.fork()
    if pid == 0:
        try:
            _own_mounts()
        except (OSError, AttributeError):
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0
