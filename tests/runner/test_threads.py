"""Threads that wait for one another sleep, in every script and before torch could read it otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT

SEEN = "import os, sys, {}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize("first", ["runner.signals", "tools"])
@pytest.mark.parametrize(("given", "used"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_passively_unless_the_user_says_otherwise(given, used, first):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    found = subprocess.run(
        [sys.executable, "-c", SEEN.format(first)], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert found.stdout.split() == [used, "False"], found.stderr
