"""Freed memory is kept, and a peak counts it, but not what a child or an earlier phase held."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from runner.tracking.environment import PeakMemory
from runner.tracking.memory import keep_freed_memory
from tests.helpers import ROOT

COUNT = """
import resource
import torch
from runner.tracking.memory import keep_freed_memory

kept = keep_freed_memory()
for _ in range(15):
    torch.ones(16_000_000)  # 64 MB, freed at once; the first few leave gaps that are too short for an aligned one
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(16_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def counted(**settings: str) -> tuple[str, int]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))} | settings
    done = subprocess.run([sys.executable, "-c", COUNT], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has other settings")
def test_large_tensors_bring_no_new_pages_unless_the_environment_says_otherwise():
    kept, faults = counted()
    assert kept == "True" and faults < 100  # 310,000 pages of 4 kB otherwise, 620 of 2 MB
    for name, value in (("MALLOC_MMAP_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.arena_max=4")):
        kept, faults = counted(**{name: value})
        assert kept == "False" and faults > 500


def test_a_peak_counts_what_was_freed_and_a_new_one_forgets_it():
    keep_freed_memory()  # as a run does
    before = PeakMemory(torch.device("cpu"))
    base = before.megabytes()
    block = np.ones(40_000_000)  # 320 MB, touched
    del block
    assert 300 < before.megabytes() - base < 400
    after = PeakMemory(torch.device("cpu"))
    assert after.megabytes() < before.megabytes() + 1
    assert after.megabytes() < base + 100
