"""Leases: one holder at a time, whatever processes and machines do; dead ones are followed at once or after a while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from runner.rundir import lease
from runner.rundir.lease import Held, leased, owner_of
from tests.helpers import ROOT

HOLDER = """
import sys, time
from pathlib import Path
from runner.rundir.lease import leased
with leased(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the folder, on a machine of another name where GLORA_HOST says so."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], text=True, stdout=subprocess.PIPE,
                               env=environment)  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_living_process_is_named_and_a_killed_one_followed_at_once(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(lease.time, "sleep", lambda seconds: pytest.fail("nothing is to be waited for on one machine"))
    with pytest.raises(Held, match=f"in use by process {holder.pid};"), leased(tmp_path):
        pass
    assert str(owner_of(tmp_path)) == f"process {holder.pid}"
    holder.kill()
    holder.wait()
    assert owner_of(tmp_path) is None
    with leased(tmp_path):
        assert owner_of(tmp_path).process == os.getpid()
    assert owner_of(tmp_path) is None


def test_within_one_process_it_is_held_again_and_left_with_the_last(tmp_path):
    with leased(tmp_path):
        with leased(tmp_path / ".." / tmp_path.name):
            pass
        assert owner_of(tmp_path) is not None
    assert owner_of(tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == [".lease-1"]
    with leased(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lease-2"]


def test_another_machines_holder_lives_by_its_beats(tmp_path, holder, monkeypatch):
    """The real heartbeat of a real process, which only its name makes another machine's."""
    monkeypatch.setenv("GLORA_HOST", "elsewhere")
    with pytest.raises(Held, match=f"process {holder.pid} of "), leased(tmp_path):
        pass


def test_another_machines_holder_that_stands_still_is_followed_and_ends(tmp_path, holder, monkeypatch):
    monkeypatch.setenv("GLORA_HOST", "elsewhere")
    monkeypatch.setattr(lease, "MISSED", 2.0)
    holder.send_signal(signal.SIGSTOP)
    with leased(tmp_path):
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(60) == -signal.SIGTERM
        assert owner_of(tmp_path).host == "elsewhere"


@pytest.mark.parametrize("words", [b"{", b"[]", b'{"machine": 3}', b"\x00" * 512])
def test_words_of_nobody_hold_nothing(tmp_path, words):
    (tmp_path / ".lease-7").write_bytes(words)
    with leased(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lease-8"]


def test_a_file_system_without_hard_links_will_do(tmp_path, monkeypatch):
    def refused(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refused)
    for number in (1, 2):
        with leased(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [f".lease-{number}"]


def test_threads_of_many_at_once_let_one_in(tmp_path, monkeypatch):
    """Machines of other names, in threads: as many as win hold it one after the other, never two at once."""
    monkeypatch.setattr(lease, "BEAT", 0.05)
    inside, most, won = 0, 0, 0
    guard = threading.Lock()

    def enter(name: str) -> None:
        nonlocal inside, most, won
        for _ in range(30):
            try:
                made = lease._take(tmp_path)
            except Held:
                continue
            with guard:
                inside, won = inside + 1, won + 1
                most = max(most, inside)
            with guard:
                inside -= 1
            made.release()

    threads = [threading.Thread(target=enter, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1 and won >= 1


BETWEEN = st.lists(st.lists(st.tuples(st.sampled_from(("want", "leave")), st.integers(1, 6)), max_size=4), max_size=3)


def test_who_looked_before_two_others_came_and_went_is_not_let_in(tmp_path, monkeypatch):
    """Its number was free again: the first of the two made it, the second removed it."""
    looks = lease._leases
    held: list[lease._Lease] = []

    def look(folder: Path) -> list[tuple[int, Path]]:
        monkeypatch.setattr(lease, "_leases", looks)
        found = looks(folder)
        lease._take(tmp_path).release()
        held.append(lease._take(tmp_path))
        return found

    monkeypatch.setattr(lease, "_leases", look)
    with pytest.raises(Held), leased(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lease-2"]
    held[0].release()


class Machines(RuleBasedStateMachine):
    """Processes of three machines at one folder, under a clock that only they move.

    Between any two steps of one that wants the folder another may come first: `_leases` is where it looks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder: Path
        self.now = 0.0
        self.here = 0
        self.alive: dict[int, lease._Lease] = {}  # by process: machine = process % 3
        self.still: set[int] = set()
        self.busy: set[int] = set()  # at it
        self.others: list[list[tuple[str, int]]] = []

    # ruff: noqa: D102 (rules are named by what they do)
    def begin(self, folder: Path) -> None:
        self.folder = folder

    def want(self, process: int) -> None:
        before, self.here = self.here, process
        self.busy.add(process)
        try:
            self.alive[process] = lease._take(self.folder)
        except Held:
            self.alive.pop(process, None)
        finally:
            self.here = before
            self.busy.discard(process)

    @rule(process=st.integers(1, 6), others=BETWEEN)
    def wants(self, process: int, others: list[list[tuple[str, int]]]) -> None:
        self.others = others
        self.do("want", process)
        self.others = []

    def do(self, what: str, process: int) -> None:
        """One process does something, if it can."""
        if what == "want" and process not in {*self.alive, *self.busy}:
            self.want(process)
        elif what == "leave" and process in {*self.alive} - self.busy - self.still:
            self.alive.pop(process).release()

    def between(self) -> None:
        """What others do between a look at the folder and what follows from it."""
        for what, process in self.others.pop(0) if self.others else ():
            self.do(what, process)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.alive)))
        if process not in self.still:
            self.alive.pop(process).release()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.alive)))
        self.alive.pop(process)._done.set()
        self.still.discard(process)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def stands_still(self, data: st.DataObject) -> None:
        self.still.add(data.draw(st.sampled_from(sorted(self.alive))))

    @precondition(lambda self: self.still)
    @rule(data=st.data())
    def goes_on(self, data: st.DataObject) -> None:
        process = data.draw(st.sampled_from(sorted(self.still)))
        self.still.discard(process)
        self.beat(process)

    def beat(self, process: int) -> None:
        """What the thread of a holder does: it finds that it was followed, or renews."""
        held, others, self.others = self.alive[process], self.others, []  # it leaves only when its thread has ended
        if lease._leases(self.folder)[-1][1] != held.path:
            self.alive.pop(process)._done.set()
        else:
            held._renew(beat=held.owner.beat + 1)
        self.others = others

    @rule()
    def time_passes(self) -> None:
        self.sleep(lease.BEAT)

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for process in [p for p in self.alive if p not in self.still]:
            self.beat(process)

    @invariant()
    def one_at_a_time(self) -> None:
        assert len([p for p in self.alive if p not in self.still]) <= 1

    def teardown(self) -> None:
        for held in self.alive.values():
            held._done.set()


def test_never_two_holders_that_move(tmp_path, monkeypatch):
    looks, makes, count = lease._leases, lease._Lease._make, 0
    machines: Machines

    def make(made: lease._Lease) -> None:
        makes(made)
        machines.alive[machines.here] = made  # its beats begin

    def fresh() -> Machines:
        nonlocal count, machines
        machines = Machines()
        count += 1
        folder = tmp_path / str(count)
        folder.mkdir()
        machines.begin(folder)

        def look(where: Path) -> list[tuple[int, Path]]:
            found = looks(where)
            machines.between()
            return found

        monkeypatch.setattr(lease, "_leases", look)
        monkeypatch.setattr(lease.time, "sleep", machines.sleep)
        monkeypatch.setattr(lease.time, "monotonic", lambda: machines.now)
        monkeypatch.setattr(lease, "machine", lambda: f"machine {machines.here % 3}")
        monkeypatch.setattr(lease.os, "getpid", lambda: machines.here)
        monkeypatch.setattr(lease, "_lives", lambda owner: owner.process in {*machines.alive, *machines.busy})
        return machines

    monkeypatch.setattr(lease._Lease, "_make", make)
    monkeypatch.setattr(lease.os, "fsync", lambda descriptor: None)  # no power is cut here
    monkeypatch.setattr(lease._Lease, "_keep", lambda self: None)  # `beat` is called instead
    limits = settings(max_examples=150, stateful_step_count=15, deadline=None,
                      suppress_health_check=list(HealthCheck))  # fmt: skip
    run_state_machine_as_test(fresh, settings=limits)
