"""Where the time of a training step goes: matrix products, attention, the rest, and Python between them."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from typing import Any

from torch.profiler import ProfilerActivity, profile

from runner.bench.model import Step
from runner.bench.setting import Setting, record, seconds

GROUPS = {
    "matrix products and convolutions": r"(add|b|badd)?mm$|.*convolution|.*linear",
    "attention": ".*scaled_dot_product|.*softmax",
    "normalisation": ".*layer_norm",
    "activation": ".*gelu",
    "optimizer": "_foreach|_fused_adam",
}
"""By group, what the names of its operations match; everything else is elementwise work, sums and copies."""

REST = "elementwise work, sums and copies"
PYTHON = "Python and autograd between the operations"


def group_of(operation: str) -> str:
    """The group of an operation such as "aten::addmm"."""
    name = operation.removeprefix("aten::")
    return next((group for group, pattern in GROUPS.items() if re.match(pattern, name)), REST)


def measure_profile(setting: Setting, repeats: int, steps: int = 5) -> dict[str, Any]:
    """Seconds of a training step by group, summed from its operations, and what is left of the wall time.

    The wall time is of steps without the profiler; operations are profiled in others with the same subnets.
    """
    step = Step(setting, "branch", setting.precision)
    step(0)
    wall, shares = [], list[Counter[str]]()
    for repeat in range(repeats):
        numbers = range(1 + repeat * steps, 1 + (repeat + 1) * steps)
        wall.append(sum(seconds(lambda n=n: step(n)) for n in numbers) / steps)  # type: ignore[misc]
        activity = ProfilerActivity.CUDA if setting.device == "cuda" else ProfilerActivity.CPU
        with profile(activities=[activity]) as found:
            for number in numbers:
                step(number)
        own: Counter[str] = Counter()
        for event in found.key_averages():
            # Records of the optimizer and of autograd nodes hold operations; alone they are Python.
            if event.key.startswith("aten::") or setting.device == "cuda":
                spent = event.self_device_time_total if setting.device == "cuda" else event.self_cpu_time_total
                own[group_of(event.key)] += spent / 1e6 / steps
        own[PYTHON] = max(0.0, wall[-1] - own.total())
        shares.append(own)
    names = sorted({n for own in shares for n in own}, key=lambda n: -statistics.median(o[n] for o in shares))
    times = {"training step": wall} | {name: [own[name] for own in shares] for name in names}
    return record("profile", setting, repeats, times, "training step") | {"steps": steps}
