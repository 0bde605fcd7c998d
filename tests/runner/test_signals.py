"""Signals: raised where they may be, at once where nothing runs yet, and left alone where the parent ignores them."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from runner import signals
from runner.signals import SIGNALS, Stopped, as_it_came, deferred, kept, stoppable
from runner.tracking import standing
from runner.tracking.progress import Progress
from tests.helpers import ROOT

LOADING = """
import time
from runner import signals
from runner.signals import loading
with loading():
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def heeded() -> Iterator[None]:
    """Signals as a terminal leaves them, for children too: tests may run in the background, where one is ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_what_may_be_stopped_and_its_handler_goes(number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as found, stoppable():
        os.kill(os.getpid(), number)
        time.sleep(30)
    assert found.value.status == 128 + number and number.name in str(found.value)
    assert signal.getsignal(number) is before
    again = pickle.loads(pickle.dumps(found.value))  # as launchers bring it from another process
    assert (again.number, again.said) == (number, False)


@pytest.mark.usefixtures("heeded")
def test_a_signal_that_waits_outlives_an_error_and_leaves_all_handlers_as_they_were():
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)]
    with pytest.raises(Stopped) as found, stoppable(), deferred() as waiting:
        os.kill(os.getpid(), signal.SIGTERM)
        assert waiting() is not None
        raise FloatingPointError("the loss is nan")
    assert found.value.number == signal.SIGTERM and isinstance(found.value.__cause__, FloatingPointError)
    assert [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)] == before
    with pytest.raises(FloatingPointError), deferred():
        raise FloatingPointError


@pytest.mark.usefixtures("heeded")
def test_a_signal_that_comes_while_handlers_are_set_waits_too(monkeypatch):
    def install(handler):
        replaced = original(handler)
        os.kill(os.getpid(), signal.SIGTERM)
        return replaced

    original = signals._install
    before = [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)]
    monkeypatch.setattr(signals, "_install", install)
    seen = []
    with pytest.raises(Stopped), signals.deferred() as waiting:
        seen.append(waiting())
    assert isinstance(seen[0], Stopped)
    assert [signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)] == before


@pytest.mark.usefixtures("heeded")
def test_a_librarys_handlers_and_its_plain_interrupt_do_not_hide_a_signal():
    before = signal.getsignal(signal.SIGTERM)
    with kept():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(Stopped) as found, stoppable(), as_it_came():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(30)
        except KeyboardInterrupt:
            raise KeyboardInterrupt from None  # as Ray's waiting does
    assert found.value.number == signal.SIGTERM
    with pytest.raises(KeyboardInterrupt) as plain, as_it_came():
        raise KeyboardInterrupt
    assert not isinstance(plain.value, Stopped)


def test_an_ignored_signal_stays_ignored_and_a_launchers_own_handler_stays():
    def own(number, frame):
        got.append(number)

    got = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN), signal.signal(signal.SIGTERM, own)
    try:
        with stoppable():
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert got == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before[0])
        signal.signal(signal.SIGTERM, before[1])


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_while_libraries_load_is_one_line(number):
    command = [sys.executable, "-c", LOADING]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 128 + number
    assert said == f"stopped by {number.name}; the same command begins again\n"


@pytest.mark.usefixtures("heeded")
def test_ctrl_c_in_the_imports_of_a_script_is_one_line():
    # -X importtime prints a line for each module that is loaded: the first of Hydra's comes long before the last.
    command = [sys.executable, "-X", "importtime", "train.py", "dataset=digits"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    next(line for line in process.stderr if "hydra" in line)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert [line for line in said.splitlines() if not line.startswith("import time:")] == [
        "stopped by SIGINT; the same command begins again"
    ]


def test_progress_says_what_is_kept():
    standing.begin()
    with Progress("search", 3, unit="generation") as progress:
        assert standing.current().kept == "no generation of 3 is kept yet"
        progress.step("")
        assert standing.current().kept == "generation 1 of 3 is kept"
    assert standing.current().kept == ""
