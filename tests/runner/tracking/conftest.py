"""No account is reached; servers and a W&B that are not real."""

import socket
import sys
import threading
import types

import pytest


@pytest.fixture(autouse=True)
def _no_account(no_account):
    """Of all tests here."""


@pytest.fixture
def listening():
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing():
    """An address where connections are refused: nobody listens, and no other process is given the port."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.fixture
def fake_wandb(monkeypatch, listening):
    """Put a `wandb` whose `init` is given, with a server that is there unless told otherwise, in place of the real.

    What it returns is set when the `wandb` is torn down.
    """

    def put(init, base_url=listening, **more):
        module, torn_down = types.ModuleType("wandb"), threading.Event()
        module.Settings = lambda **settings: settings
        module.setup = lambda _: types.SimpleNamespace(settings=types.SimpleNamespace(base_url=base_url, **more))
        module.init, module.teardown = init, torn_down.set
        monkeypatch.setitem(sys.modules, "wandb", module)
        return torn_down

    return put
