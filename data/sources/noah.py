"""The "vtab-1k" folder of NOAH, FacT and RepAdapter: one folder per task with list files and JPEG images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data.base import STORED_SPLITS, DataError, TaskInfo
from data.sources.base import Listing, file_listing, read_rows
from data.vtab_table import VTAB_BY_ID

OTHER_SPELLINGS = {"cifar": "cifar100", "oxford_iiit_pet": "oxford_pet"}
"""Folders that NOAH's own scripts rename."""


def spellings(task_id: str) -> list[str]:
    """The names a task's folder may have."""
    name = VTAB_BY_ID[task_id].noah_folder
    return [name, *filter(None, [OTHER_SPELLINGS.get(name)])]


def task_folder(root: Path, task_id: str) -> Path:
    """The task's folder under `root`; DataError naming every spelling when there is none."""
    folders = [root / spelling for spelling in spellings(task_id)]
    for folder in folders:
        if folder.is_dir():
            return folder
    raise DataError(f"missing {' or '.join(map(str, folders))}: the {task_id} folder of vtab-1k")


def noah(root: Path, task: TaskInfo) -> dict[str, Listing]:
    """Listings of train800, val200 and test; checked for counts, labels, agreement with train800val200, and files."""
    folder, lists = task_folder(root, task.id), {}
    for split, count in task.split_sizes.items():
        path = folder / f"{split}.txt"
        lists[split] = read_rows(path, task.num_classes)
        if len(lists[split]) != count:
            raise DataError(f"{path} has {len(lists[split])} lines; {split} of {task.id} has {count}")
    parts = Counter(row.label for split in ("train800", "val200") for row in lists[split])
    if parts != Counter(row.label for row in lists["train800val200"]):
        raise DataError(f"{folder}: the labels of train800.txt and val200.txt are not those of train800val200.txt")
    for split in STORED_SPLITS:
        for number, row in enumerate(lists[split], 1):
            if not row.file.is_file():
                raise DataError(f"missing {row.file}, named in {folder / split}.txt:{number}")
    return {split: file_listing([row.file for row in lists[split]], [row.label for row in lists[split]], None)
            for split in STORED_SPLITS}  # fmt: skip
