"""VTAB tasks with few test images of 32 pixels, for tests of whole sweeps.

    forked(["train.py", "-m", "sweep=vtab", ...], before=shrink)

The real test splits hold 340,000 images. Only this module knows smaller ones: all checks of the scripts are in place.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

TEST = 60
SIZE = 32


def shrink() -> None:
    """Replace the VTAB tasks of the registry by those with `TEST` test images of `SIZE` pixels."""
    from data import SUITES, TASKS

    for task_id in SUITES["vtab"]:
        task = TASKS[task_id]
        sizes = MappingProxyType({**task.split_sizes, "test": TEST})
        TASKS[task_id] = replace(task, split_sizes=sizes, image_size=SIZE)
