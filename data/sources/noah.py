"""The "vtab-1k" folder of NOAH, FacT and RepAdapter: one folder per task with list files and JPEG images."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from data.base import STORED_SPLITS, DataError, TaskInfo
from data.sources.base import Example, Listing, read_bytes
from data.vtab_table import VTAB_BY_ID

OTHER_SPELLINGS = {"cifar": "cifar100", "oxford_iiit_pet": "oxford_pet"}
"""Folders that NOAH's own scripts rename."""


def task_folder(root: Path, task_id: str) -> Path:
    """The task's folder under ``root``; DataError naming every spelling when there is none."""
    name = VTAB_BY_ID[task_id].noah_folder
    spellings = [name, *filter(None, [OTHER_SPELLINGS.get(name)])]
    for spelling in spellings:
        if (root / spelling).is_dir():
            return root / spelling
    raise DataError(f"missing {' or '.join(str(root / s) for s in spellings)}: the {task_id} folder of vtab-1k")


def read_list(path: Path, classes: int) -> list[tuple[Path, int]]:
    """Image files and labels of a list of "path label" lines, the path relative to the list's folder.

    Raises DataError with file and line for a line that is not so, leaves the folder, or has a label out of range.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"missing or unreadable list {path} ({error})") from error
    root, out = path.parent.resolve(), []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdecimal():
            raise DataError(f"{path}:{number}: '{line}' is not 'path label'")
        if int(label) >= classes:
            raise DataError(f"{path}:{number}: label {label} is not in 0 to {classes - 1}")
        file = path.parent / name
        if not file.resolve().is_relative_to(root):
            raise DataError(f"{path}:{number}: '{name}' leaves {path.parent}")
        out.append((file, int(label)))
    return out


def noah(root: Path, task: TaskInfo) -> dict[str, Listing]:
    """Listings of train800, val200 and test; checked for counts, labels, agreement with train800val200, and files."""
    home, lists = task_folder(root, task.id), {}
    for split, count in task.split_sizes.items():
        path = home / f"{split}.txt"
        lists[split] = read_list(path, task.num_classes)
        if len(lists[split]) != count:
            raise DataError(f"{path} has {len(lists[split])} lines; {split} of {task.id} has {count}")
    parts = Counter(label for split in ("train800", "val200") for _, label in lists[split])
    if parts != Counter(label for _, label in lists["train800val200"]):
        raise DataError(f"{home}: the labels of train800.txt and val200.txt are not those of train800val200.txt")
    for split in STORED_SPLITS:
        for number, (file, _) in enumerate(lists[split], 1):
            if not file.is_file():
                raise DataError(f"missing {file}, named in {home / split}.txt:{number}")
    return {split: _listing(lists[split]) for split in STORED_SPLITS}


def _listing(rows: list[tuple[Path, int]]) -> Listing:
    def get(i: int) -> Example:
        return Example(read_bytes(rows[i][0]), rows[i][1], str(rows[i][0]))

    return Listing(len(rows), get, None)
