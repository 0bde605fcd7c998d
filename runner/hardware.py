"""What a figure was made on."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python and of ``packages``."""
    return {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in packages}}
