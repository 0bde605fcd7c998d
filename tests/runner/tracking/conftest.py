"""No account is reached; servers and a W&B that are not real."""

import socket
import sys
import types

import pytest

from runner.tracking.tracker import Tracker


@pytest.fixture(autouse=True)
def no_account(tmp_path_factory, monkeypatch):
    """A home without credentials, so that no test can reach an account."""
    home_folder = tmp_path_factory.mktemp("home")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "http_proxy", "HTTP_PROXY", "all_proxy",
                 "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Tracker, "given_up", False)
    monkeypatch.setenv("HOME", str(home_folder))
    return home_folder


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
    """Put a `wandb` whose `init` is given, with a server that is there unless told otherwise, in place of the real."""

    def put(init, base_url=listening, **more):
        module = types.ModuleType("wandb")
        module.Settings = lambda **settings: settings
        module.setup = lambda: types.SimpleNamespace(settings=types.SimpleNamespace(base_url=base_url, **more))
        module.init = init
        monkeypatch.setitem(sys.modules, "wandb", module)

    return put
