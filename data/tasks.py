"""The registry: every task by id, every suite by name, and a look-up that helps with misspelt ids."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from data.base import DataError, Split, TaskInfo
from data.shot_table import DOMAIN, FEW_SHOT, SHOT_ROWS, shot_task
from data.vtab_table import OTHER_NAMES, VTAB_ROWS

MINI_IMAGE_SIZE = 64
VTAB_IMAGE_SIZE = 224


def _sizes(test: int) -> MappingProxyType[str, int]:
    """Split sizes of VTAB-1K and of the mini tasks, which differ only in `test`. Read-only, as tasks are shared."""
    return MappingProxyType({"train800": 800, "val200": 200, "train800val200": 1000, "test": test})


def _mini(task_id: str, title: str, group: str, num_classes: int, test: int = 1000) -> TaskInfo:
    return TaskInfo(task_id, title, group, "mini", num_classes, _sizes(test), MINI_IMAGE_SIZE)


_VTAB_TASKS = [TaskInfo(r.id, r.title, r.group, "vtab", r.num_classes, _sizes(r.test_size), VTAB_IMAGE_SIZE)
               for r in VTAB_ROWS]  # fmt: skip

_MINI_TASKS: list[TaskInfo] = [
    _mini("digits", "Digits (UCI)", "natural", 10, test=797),
    _mini("textures", "Textures", "specialized", 8),
    _mini("shapes_count", "Shapes-Count", "structured", 6),
    _mini("shapes_location", "Shapes-Loc", "structured", 8),
    _mini("shapes_orientation", "Shapes-Ori", "structured", 8),
    _mini("shapes_distance", "Shapes-Dist", "structured", 6),
]

_SHOT_TASKS = [shot_task(row_id) for row_id in SHOT_ROWS]

TASKS: dict[str, TaskInfo] = {task.id: task for task in [*_VTAB_TASKS, *_MINI_TASKS, *_SHOT_TASKS]}


def _group(name: str) -> tuple[str, ...]:
    return tuple(row.id for row in VTAB_ROWS if row.group == name)


LOADERS: dict[str, Callable[[str, Path], Split]] = {}
"""How the images of tasks from outside this package are read (`register_task`)."""

SUITES: dict[str, tuple[str, ...]] = {
    "vtab": tuple(row.id for row in VTAB_ROWS),
    "natural": _group("natural"),
    "specialized": _group("specialized"),
    "structured": _group("structured"),
    "mini": tuple(task.id for task in _MINI_TASKS),
    FEW_SHOT: tuple(task.id for task in _SHOT_TASKS if task.suite == FEW_SHOT),
    DOMAIN: tuple(task.id for task in _SHOT_TASKS if task.suite == DOMAIN),
}


def _aliases() -> dict[str, str]:
    names = {row.id: {row.id, row.title.lower(), row.noah_folder, *OTHER_NAMES.get(row.id, ())} for row in VTAB_ROWS}
    found = {}
    for task_id, known in names.items():
        for name in sorted(known | {name.replace("_", "-") for name in known}):
            if name not in TASKS:
                found[name] = task_id
    return found


ALIASES: dict[str, str] = _aliases()
"""Other names of the VTAB tasks, each with the id that it stands for: those of the official code, of the folders of the
"vtab-1k" archive and of the paper in lower case, with hyphens too. Directories and results have the id alone."""

# What is likely to be meant; not the same data.
_NEAR = {"mnist": "digits", "count": "shapes_count", "location": "shapes_location"}


def register_task(task: TaskInfo, load: Callable[[str, Path], Split]) -> None:
    """Add a task from outside this package to the registry, and to its suite.

    Args:
        task: its `suite` may be a new one.
        load: takes a stored split's name and the data root, gives the images.

    Raises:
        ValueError: for an id that is taken, by another name of a task or a suite too.
    """
    if task.id in TASKS or task.id in SUITES or task.id in ALIASES:
        raise ValueError(f"the name {task.id!r} is taken")
    TASKS[task.id], LOADERS[task.id] = task, load
    SUITES[task.suite] = (*SUITES.get(task.suite, ()), task.id)


def get_task(id: str) -> TaskInfo:  # noqa: A002 (the field of TaskInfo is called id as well)
    """The task with an id of `TASKS` or one of its other names (`ALIASES`).

    Raises:
        DataError: naming near matches and all ids, if there is none.
    """
    id = ALIASES.get(id, id)  # noqa: A001
    if id in TASKS:
        return TASKS[id]
    if id == "folder":
        raise DataError("dataset=folder is prepared by train.py at first use: python train.py dataset=folder "
                        "dataset.root=<your images>")  # fmt: skip
    if id in SUITES:
        raise DataError(f"'{id}' is a suite of {len(SUITES[id])} tasks, not one task: use sweep={id}, or dataset= with "
                        f"one of {', '.join(SUITES[id])}")  # fmt: skip
    wanted = str(id).strip().lower()
    near = [task for task in TASKS if task == wanted or _NEAR.get(wanted) == task]
    near += [task for task in difflib.get_close_matches(wanted.replace("-", "_"), TASKS, n=3) if task not in near]
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    listing = "; ".join(f"{suite}: {', '.join(SUITES[suite])}" for suite in ("mini", "vtab", FEW_SHOT, DOMAIN))
    raise DataError(f"unknown dataset '{id}'.{hint} Available: {listing}.")


def check_split(task: TaskInfo, split: str) -> None:
    """Raise DataError unless `split` is a split of `task`."""
    if split not in task.split_sizes:
        raise DataError(f"unknown split '{split}' of dataset {task.id}; it has {', '.join(task.split_sizes)}")
