"""What a figure was made on."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from contextlib import suppress
from pathlib import Path

import torch

from runner.tracking.memory import release_freed_memory


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of `packages`."""
    return {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}}


def peak_resident() -> float:
    """Peak resident memory of this process in MB."""
    try:
        # ru_maxrss would do, but a child starts with its parent's.
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1e3
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


class PeakMemory:
    """Peak memory in MB since it was made: of the allocator on CUDA, else what the process holds (all of it).

    Where a kernel cannot forget an earlier peak, a process that ran something larger before reads that.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.init()  # a device named with its index has no counters before
            torch.cuda.reset_peak_memory_stats(device)
            return
        release_freed_memory()  # an earlier run's would count as this one's
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def megabytes(self) -> float:
        """The peak so far."""
        return torch.cuda.max_memory_allocated(self.device) / 1e6 if self.device.type == "cuda" else peak_resident()
