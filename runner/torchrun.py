"""This process as one of those that torchrun started for one job; everything here does nothing where there is one.

Rank 0 runs the job and alone opens its run directory, logs and prints. The others do what it tells them
(`runner.stages.follow`). Orders, and the words of what went wrong, go over torchrun's key-value store, where a process
waits outside of any collective: rank 0 may evaluate for an hour, and who waits hears signals. Weights go by
collectives.
"""

from __future__ import annotations

import atexit
import base64
import copyreg
import functools
import logging
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from glora.distributed import ONE, Lost, Ranks, Several, reaching
from runner.config.errors import ConfigError

log = logging.getLogger(f"glora.{__name__}")
T = TypeVar("T")
END = "end"
"""The last order."""
POLL_SECONDS = 0.05
"""Between two looks at the store, at most."""
PATIENCE = timedelta(minutes=10)
"""For one collective, in which the slowest rank may still be compiling its first step."""
WORDS_SECONDS = 0.3
"""For the words of a rank that has just ended."""
FAILED, STOPPED = "failed", "stopped"
"""Under which a rank leaves its words."""


def _table(entries: dict[Any, Any]) -> MappingProxyType[Any, Any]:
    return MappingProxyType(entries)


copyreg.pickle(MappingProxyType, lambda table: (_table, (dict(table),)))  # a `Run` holds some, and is sent


def size() -> int:
    """How many processes torchrun started for the job; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def rank() -> int:
    """Which one this is."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


def leads() -> bool:
    """Whether this is the process that runs the job."""
    return rank() == 0


def local_rank() -> int:
    """Which one on this machine: its GPU."""
    return int(os.environ["LOCAL_RANK"])


def local_size() -> int:
    """How many on this machine."""
    return int(os.environ["LOCAL_WORLD_SIZE"]) if dist.is_torchelastic_launched() else 1


def refuse_several(what: str) -> None:
    """Raise ConfigError under torchrun, whose processes share one job, for `what` they cannot share."""
    if size() > 1:
        raise ConfigError(f"the {size()} processes of torchrun share one job, and {what}; type it without torchrun")


class _Team:
    """The connection of this process to the others."""

    def __init__(self) -> None:
        environment = os.environ
        host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        served = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by torchrun itself
        with reaching():
            # `dist.rendezvous` would wait here until all processes have come, and hear no signal.
            store = dist.TCPStore(host, port, is_master=leads() and not served, wait_for_workers=False)
        attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
        self.store = dist.PrefixStore(f"glora-{attempt}", store)
        self._orders = 0

    def tell(self, order: tuple[Any, ...]) -> None:
        """Give the others an order."""
        with reaching():
            self.store.set(f"order-{self._orders}", base64.b64encode(pickle.dumps(order)).decode())
        self._orders += 1

    def hear(self) -> tuple[Any, ...]:
        """The next order of rank 0, whenever it comes."""
        key = f"order-{self._orders}"
        self.wait([key])
        self._orders += 1
        with reaching():
            order: tuple[Any, ...] = pickle.loads(base64.b64decode(self.store.get(key)))
        return order

    def wait(self, keys: list[str]) -> None:
        """Wait for these keys of the store; `Store.wait` would hear no signal, and warns of every time-out."""
        pause = 0.001
        with reaching():
            while not self.store.check(keys):
                time.sleep(pause)
                pause = min(2 * pause, POLL_SECONDS)

    def wait_for_all(self) -> None:
        """Until the others listen: making the group would wait as well, and hear no signal."""
        self.wait([f"here-{other}" for other in range(1, size())])

    def join(self) -> None:
        """Make the group of all processes, once; each computes on its own GPU, where it has one."""
        if dist.is_initialized():
            return
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(local_rank() % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        with reaching():
            dist.init_process_group(backend, store=dist.PrefixStore("group", self.store), rank=rank(),
                                    world_size=size(), timeout=PATIENCE)  # fmt: skip
        log.info("%d processes share every batch, and the candidates of a search", size())


@functools.cache
def _team() -> _Team:
    return _Team()


def begin() -> None:
    """A command begins: as this process ends, the others are told so."""
    if size() > 1 and leads():
        atexit.register(_end)


def _end() -> None:
    with suppress(RuntimeError):
        _team().tell((END,))
        leave()


def leave() -> None:
    """Behind the last order."""
    if dist.is_initialized():
        dist.destroy_process_group()


def order(word: str, *what: object) -> None:
    """Tell the others what rank 0 is about to do. Raises Lost."""
    if size() > 1:
        _team().wait_for_all()
        _team().tell((word, *what))
        _team().join()


def orders() -> Iterator[tuple[Any, ...]]:
    """What rank 0 tells this process to do, until it has nothing more. Raises Lost."""
    with reaching():
        _team().store.set(f"here-{rank()}", "")
    while (heard := _team().hear())[0] != END:
        _team().join()
        yield heard


def give(value: Callable[[], object]) -> None:
    """Hand the others what `taken` returns there. Raises Lost."""
    if size() > 1:
        _broadcast(value())


def taken() -> Any:
    """What rank 0 gives. Raises Lost."""
    return _broadcast(None)


def _broadcast(value: object) -> object:
    held = [value]
    with reaching():
        dist.broadcast_object_list(held)
    return held[0]


def gathered(mine: dict[Any, T]) -> dict[Any, T]:
    """The entries of all ranks together, on all of them. Raises Lost."""
    found: list[Any] = [None] * size()
    with reaching():
        dist.all_gather_object(found, mine)
    return {key: value for one in found for key, value in one.items()}


def group() -> Ranks:
    """The processes as a `Trainer` takes them."""
    return Several() if size() > 1 else ONE


def says(text: str, error: BaseException) -> bool:
    """Whether this process is the one to print what it ends with; another one leaves it for rank 0."""
    if leads():
        return True
    if not isinstance(error, Lost):  # its cause is another rank's
        kind = FAILED if isinstance(error, Exception) else STOPPED
        with suppress(RuntimeError):
            _team().store.compare_set(kind, "", f"rank {rank()}: {text}")
    return False


def failed() -> str | None:
    """The error that another rank has left for this one."""
    return _words(FAILED) if size() > 1 and leads() else None


def why() -> str:
    """Why another rank is lost: what it left, which may come a moment later."""
    until = time.monotonic() + WORDS_SECONDS * leads()
    while (words := _words(FAILED) or _words(STOPPED)) is None and time.monotonic() < until:
        time.sleep(0.02)
    return words or ("another process of this job ended without a word; type the same command again, which goes on "
                     "from what is kept")  # fmt: skip


def _words(kind: str) -> str | None:
    with suppress(RuntimeError):
        store = _team().store
        if store.check([kind]):
            return store.get(kind).decode()
    return None
