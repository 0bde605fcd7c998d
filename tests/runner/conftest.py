"""No account is reached."""

import pytest

from runner.tracking.page import Page


@pytest.fixture
def no_account(tmp_path_factory, monkeypatch):
    """A home without credentials, so that no test can reach an account, and a W&B that nobody has given up."""
    home_folder = tmp_path_factory.mktemp("home")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "http_proxy", "HTTP_PROXY", "all_proxy",
                 "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Page, "given_up", False)
    monkeypatch.setenv("HOME", str(home_folder))
    return home_folder
