"""The examples as a user runs them, and what they show."""

import os
import re
import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.slow
def test_a_llama_is_adapted_searched_and_merged_into_its_own_architecture():
    # A script finds its own folder and what is installed, which may be another checkout: this one is under test.
    env, command = {**os.environ, "PYTHONPATH": str(ROOT)}, [sys.executable, "examples/llama.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr

    def number(label: str) -> float:
        found = re.search(label + r" ([\d.e+-]+)", done.stdout)
        assert found, done.stdout
        return float(found.group(1))

    # Nine in ten tokens follow the permutation; of the rest one in 32 does by chance.
    assert number("second language before") < 10 < 80 < number("second language after") < 93
    assert number("merged against adapted logits") < 1e-4
    assert "25^15" in done.stdout  # seven linears in each of two blocks and the output layer; A and B of five options
