"""Run one of the scripts with few test images per VTAB task and images of 32 pixels, for tests of whole sweeps.

    python tests/small_vtab.py train.py -m sweep=vtab ...

The real test splits hold 340,000 images. Only this driver knows smaller ones: all checks of the scripts are in place.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).resolve().parent.parent
TEST = 60
SIZE = 32


def shrink() -> None:
    """Replace the VTAB tasks of the registry by those with ``TEST`` test images of ``SIZE`` pixels."""
    from data import SUITES, TASKS

    for task_id in SUITES["vtab"]:
        task = TASKS[task_id]
        sizes = MappingProxyType({**task.split_sizes, "test": TEST})
        TASKS[task_id] = replace(task, split_sizes=sizes, image_size=SIZE)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    shrink()
    sys.argv = sys.argv[1:]
    runpy.run_path(str(ROOT / sys.argv[0]), run_name="__main__")
