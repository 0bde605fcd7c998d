"""Where the time of a training step goes: matrix products, attention, the rest, and Python between them."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity, profile

from runner.bench.model import Step
from runner.bench.setting import Setting, record, seconds

GROUPS = {
    "attention": ".*scaled_dot_product|.*softmax|.*flash_|.*fmha",
    "optimizer": "_foreach|_fused_adam|.*multi_tensor_apply",
    "matrix products and convolutions": "(add|b|badd)?mm$|.*convolution|.*linear|.*gemm|.*cutlass|nvjet|.*splitk"
    "|.*cudnn|.*xmma",
    "normalisation": ".*layer_?norm",
    "activation": ".*gelu",
}
"""By group, what the names of its operations (on CUDA: kernels) match in lower case, the first that does; everything
else is elementwise work, sums and copies. A kernel that a compiler fused counts for the first group in its name.
"""

LONGEST = 15
"""Operations that are kept by name."""

REST = "elementwise work, sums and copies"
PYTHON = "Python and autograd between the operations"


def group_of(operation: str) -> str:
    """The group of an operation such as "aten::addmm", or of a kernel."""
    name = operation.lower().removeprefix("aten::")
    return next((group for group, pattern in GROUPS.items() if re.match(pattern, name)), REST)


def measure_profile(setting: Setting, repeats: int, steps: int = 5) -> dict[str, Any]:
    """Seconds of a training step by group, summed from its operations, and what is left of the wall time.

    `longest` holds the operations (on CUDA: kernels) with the most time, in seconds a step.

    The wall time is of steps without the profiler; operations are profiled in others with the same subnets.
    """
    step = Step(setting, setting.form, setting.precision)
    step(0)
    wall, shares = [], list[defaultdict[str, float]]()
    operations: defaultdict[str, float] = defaultdict(float)
    for repeat in range(repeats):
        numbers = range(1 + repeat * steps, 1 + (repeat + 1) * steps)
        wall.append(sum(seconds(partial(step, n)) for n in numbers) / steps)
        activity = ProfilerActivity.CUDA if setting.cuda else ProfilerActivity.CPU
        with profile(activities=[activity]) as found:
            for number in numbers:
                step(number)
        own: defaultdict[str, float] = defaultdict(float)
        for event in found.key_averages():
            # Records of the optimizer and of autograd nodes hold operations; alone they are Python.
            if event.key.startswith("aten::") or setting.cuda:
                spent = event.self_device_time_total if setting.cuda else event.self_cpu_time_total
                own[group_of(event.key)] += spent / 1e6 / steps
                operations[event.key] += spent / 1e6 / steps / repeats
        own[PYTHON] = max(0.0, wall[-1] - sum(own.values()))
        shares.append(own)
    names = sorted({n for own in shares for n in own}, key=lambda n: -statistics.median(o[n] for o in shares))
    times = {"training step": wall} | {name: [own[name] for own in shares] for name in names}
    longest = dict(sorted(operations.items(), key=lambda pair: -pair[1])[:LONGEST])
    return record("profile", setting, repeats, times, "training step") | {"steps": steps, "longest": longest}
