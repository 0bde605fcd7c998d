"""The C library's memory: what one tensor leaves, the next one takes."""

from __future__ import annotations

import ctypes
import os
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")
"""The environment variables by which glibc knows what is set here."""


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None


def release_freed_memory() -> None:
    """Hand freed memory back to the kernel once, so that what the process holds is what it uses."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor instead of handing it back to the kernel.

    It otherwise maps every tensor above 32 MB anew, and each page of it is zeroed and mapped when it is first written:
    several times what filling the tensor costs. The price is gaps, some tensors' worth more of peak memory.

    Returns whether it was done: not under another C library, nor where the environment says it otherwise.
    """
    if any(name in os.environ for name in SETTINGS) or "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    mallopt = _function("mallopt")
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, 1 << 30) and mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1))
