"""Commands and functions in processes of their own, forked from this one, which has imported everything already."""

from __future__ import annotations

import json
import os
import resource
import runpy
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.torture.verdicts import Verdict, of_output, rerun
from tools.torture.watch import Before, Watch

ROOT = Path(__file__).resolve().parent.parent.parent
MEMORY = 3 << 30
"""Address space that a child may take on top of its parent's, in bytes."""

Task = Callable[[], object]


@dataclass(frozen=True)
class Ended:
    """How a child ended: `status` None where it was ended for taking too long; `changes` None where it was killed."""

    status: int | None
    output: str
    seconds: float
    changes: int | None
    outside: tuple[str, ...]

    def kind(self) -> tuple[str, str]:
        """The kind and the line that the end is by itself; an end by a signal that was sent counts as identical."""
        if self.outside:
            return "outside", self.outside[0]
        if self.status is None:
            return "hang", f"no end in {self.seconds:.0f} s"
        return of_output(self.status, self.output)


def command(words: Sequence[str]) -> Task:
    """`[script, *overrides]` as a task: what `python script overrides` runs, without starting an interpreter."""

    def task() -> None:
        sys.argv = list(words)
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")

    return task


class Child:
    """A task that runs in a process of its own, in `folder`, and may change files in there alone.

    Args:
        task: what runs; its exit status is that of `sys.exit`, 1 after an exception, whose traceback is printed.
        folder: its working folder; `tmp` and `home` in it are made its own.
        allowed: what it may change, relative to the folder.
        before: called before its changes, see `Watch`.
    """

    def __init__(self, task: Task, folder: Path, allowed: Sequence[str] = (".",), before: Before | None = None) -> None:
        for name in ("tmp", "home"):
            (folder / name).mkdir(exist_ok=True)
        self._output, output = os.pipe()
        self._notes, notes = os.pipe()
        self._began = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._output)
            os.close(self._notes)
            os._exit(_child(task, folder, [folder / a for a in (*allowed, "tmp", "home")], before, output, notes))
        os.close(output)
        os.close(notes)

    def kill(self, name: str) -> None:
        """Send it a signal, by the name after "SIG"."""
        os.kill(self.pid, signal.Signals[f"SIG{name}"])

    def wait(self, limit: float, kill: tuple[float, str] | None = None) -> Ended:
        """Its end; after `limit` seconds it is ended. `kill`: seconds from now and the signal that it is sent then."""
        texts = {self._output: b"", self._notes: b""}
        open_ends, deadline = set(texts), self._began + limit
        moment = None if kill is None else time.monotonic() + kill[0]
        status: int | None = 0
        while open_ends:
            until = deadline if moment is None else min(deadline, moment)
            ready, _, _ = select.select(list(open_ends), [], [], max(0.0, until - time.monotonic()))
            for end in ready:
                part = os.read(end, 65536)
                texts[end] += part
                if not part:
                    open_ends.discard(end)
            if ready:
                continue
            if kill is not None and moment is not None and time.monotonic() >= moment:
                self.kill(kill[1])
                moment = None
            elif time.monotonic() >= deadline:
                self.kill("KILL")
                status = None
                break
        for end in texts:
            os.close(end)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        notes = texts[self._notes].decode(errors="replace").splitlines()
        counts = [int(note.split()[1]) for note in notes if note.startswith("changes ")]
        outside = tuple(note.removeprefix("outside ") for note in notes if note.startswith("outside "))
        output = texts[self._output].decode(errors="replace")
        seconds = time.monotonic() - self._began
        return Ended(None if status is None else code, output, seconds, counts[0] if counts else None, outside)


def _child(task: Task, folder: Path, allowed: list[Path], before: Before | None, output: int, notes: int) -> int:
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1, closefd=False) for stream in (1, 2))
    os.chdir(folder)
    os.environ |= {"TMPDIR": str(folder / "tmp"), "HOME": str(folder / "home")}
    tempfile.tempdir = str(folder / "tmp")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    watch = Watch(lambda line: os.write(notes, f"outside {line!r}\n".encode()), allowed, before)
    watch.install()
    code = 1
    try:
        task()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os.write(notes, f"changes {watch.count}\n".encode())
    return code


def run(
    task: Task,
    folder: Path,
    limit: float = 60,
    allowed: Sequence[str] = (".",),
    before: Before | None = None,
    kill: tuple[float, str] | None = None,
) -> Ended:
    """A child's end, see `Child` and `Child.wait`."""
    return Child(task, folder, allowed, before).wait(limit, kill)


def spread(part: str, names: Sequence[str], work: Callable[[str], Verdict], jobs: int) -> Iterator[Verdict]:
    """The verdicts of all cases of a part, as they come, from `jobs` processes that work on them side by side.

    What `work` itself raises is a failure of that case, so that an hour's work is not lost.

    Raises:
        RuntimeError: if one of the processes ends early.
    """
    readers: dict[int, bytes] = {}
    pids = []
    for j in range(jobs):
        read, write = os.pipe()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(_worker(part, names[j::jobs], work, write))
        os.close(write)
        readers[read] = b""
        pids.append(pid)
    while readers:
        for end in select.select(list(readers), [], [])[0]:
            received = os.read(end, 65536)
            *lines, readers[end] = (readers[end] + received).split(b"\n")
            for line in lines:
                yield Verdict(**json.loads(line))
            if not received:
                del readers[end]
                os.close(end)
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        raise RuntimeError("a process of the torture itself failed; see above")


def _tried(part: str, name: str, work: Callable[[str], Verdict]) -> Verdict:
    try:
        return work(name)
    except Exception as error:
        traceback.print_exc()
        return Verdict(part, "torture itself", name, "traceback", repr(error), rerun(part, name))


def _processor_time() -> float:
    """Seconds of this process and its children that have ended: unlike a clock's, the same on a busy machine."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _worker(part: str, names: Sequence[str], work: Callable[[str], Verdict], write: int) -> int:
    try:
        for name in names:
            began = _processor_time()
            found = {**asdict(_tried(part, name, work)), "seconds": round(_processor_time() - began, 3)}
            line = json.dumps(found).encode() + b"\n"
            while line:
                line = line[os.write(write, line) :]
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
