"""Peak memory is what was held, also after it was freed, and not what a child or an earlier phase held."""

import numpy as np
import torch

from runner.tracking.environment import PeakMemory
from runner.tracking.memory import keep_freed_memory


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
