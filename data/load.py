"""``load_split``: the one way into the data."""

from __future__ import annotations

from pathlib import Path

from data.base import DataError, Split
from data.cache import load_mini, load_vtab
from data.tasks import check_split, get_task
from data.vtab_table import VTAB_SOURCES


def load_split(task_id: str, split: str, *, data_root: Path | str, source: str | None = None) -> Split:
    """Images and labels of one split, held in memory.

    Mini tasks are rendered at first use and cached under ``data_root``; VTAB tasks must be prepared there. ``source``
    ('raw', 'tfds', 'noah' or None for whichever was prepared) concerns VTAB tasks only.
    Raises DataError on unknown names, on missing or damaged VTAB files, and on a source given for a mini task.
    """
    task = get_task(task_id)
    check_split(task, split)
    if source is not None and source not in VTAB_SOURCES:
        raise DataError(f"unknown source '{source}'; a VTAB task's images come from {', '.join(VTAB_SOURCES)}")
    root = Path(data_root).expanduser()
    if task.suite == "mini":
        if source is not None:
            raise DataError(f"dataset {task.id} is made on this machine and has no source; leave source={source} out")
        return load_mini(task, split, root)
    return load_vtab(task, split, root, source)
