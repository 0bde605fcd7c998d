"""A server that refuses is asked once, and W&B is online only where an account is."""

import os
import pwd
import subprocess
import sys
import types

import pytest

from runner.tracking.metrics import read_metrics
from runner.tracking.server import reach, resolve_mode
from tests.helpers import ROOT
from tests.helpers.tracked import tracked


def test_a_server_that_refuses_is_asked_once_and_never_waited_for(tmp_path, caplog, fake_wandb, refusing):
    def init(**options):
        raise AssertionError("W&B itself would wait for a minute")

    fake_wandb(init, refusing)
    for job in ("first", "second"):
        with tracked(tmp_path / job, "online") as tracker:
            tracker.log({"loss": 1.0}, step=0)
        assert len(read_metrics(tmp_path / job / "metrics.jsonl")) == 1
    (record,) = caplog.records
    said = record.getMessage()
    assert "refused" in said and refusing.removeprefix("http://") in said and "later ones" in said
    with tracked(tmp_path / "third"):  # which needs no server
        pass
    assert "AssertionError" in caplog.text


@pytest.mark.parametrize("way", ["setting", "environment"])
def test_a_proxy_is_asked_in_place_of_the_server_behind_it(way, monkeypatch, listening, refusing):
    address = listening.removeprefix("http://")  # without a scheme, as some write it
    settings = types.SimpleNamespace(base_url="http://wandb.invalid", http_proxy=address if way == "setting" else None)
    if way == "environment":
        monkeypatch.setenv("http_proxy", listening)
    reach(settings)
    monkeypatch.setenv("no_proxy", "wandb.invalid")
    if way == "environment":
        with pytest.raises(ConnectionError, match="wandb.invalid:80"):
            reach(settings)


REFUSED = """
import sys
from tests.helpers.tracked import tracked
for job in ("a", "b"):
    with tracked(f"{sys.argv[1]}/{job}", "online") as tracker:
        tracker.log({"loss": 1.0}, step=0)
"""


@pytest.mark.slow
def test_the_real_wandb_tells_where_its_server_is(tmp_path, refusing):
    environment = os.environ | {"WANDB_BASE_URL": refusing, "WANDB_API_KEY": "0" * 40, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stderr.count("W&B start failed") == 1, done.stderr
    assert f"{refusing.removeprefix('http://')}: Connection refused" in done.stderr


def test_auto_goes_online_only_where_a_key_is_configured(no_account, monkeypatch):
    assert resolve_mode("auto") == "offline"
    (no_account / ".netrc").write_text("machine example.org login a password b\n")
    assert resolve_mode("auto") == "offline"
    (no_account / ".netrc").write_text("machine api.wandb.ai login user password not-a-key\n")
    (no_account / ".netrc").chmod(0o600)
    assert resolve_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert resolve_mode("auto") == "disabled"
    monkeypatch.delenv("WANDB_MODE")
    (no_account / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "not-a-key")
    assert resolve_mode("auto") == "online"
    assert resolve_mode("offline") == "offline"
    with pytest.raises(ValueError, match="'on' is not one of"):
        resolve_mode("on")


def test_a_user_without_a_home_has_no_key(monkeypatch):
    def nobody(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert resolve_mode("auto") == "offline"
