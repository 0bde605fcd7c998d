"""Make data sets ready: download, unpack, decode into the cache, and say what came of it or what a user has to do."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path

from data import SHOT_ROWS, DataError, ShotRow, TaskInfo, get_task
from data.archives import still_to_fetch, unpack
from data.base import MissingCopy, MissingData
from data.build import build, source_roots, split_path, variant
from data.download import fetch
from data.mini_cache import build_mini, mini_path, mini_ready
from data.shots import SOURCE_FOLDER, build_shots, eval_path, shots_instructions
from data.sources.raw import raw_folder
from data.sources.tfds_build import build_copy
from data.status import mini_line, status_lines, vtab_instructions
from data.tasks import LOADERS
from runner.config.preparation import Preparation, unique

BIG = 10.0
"""Gigabytes above which a download has to be asked for."""


def prepare_all(preparations: list[Preparation]) -> bool:
    """Make every task ready that can be, each once; without a task print the status of all. Whether all are ready.

    Raises:
        DataError: for a place that cannot be used.
    """
    wanted = [p for p in unique(preparations) if p.task is not None]
    if wanted:
        # A list, not a generator: one task that is not ready must not keep the others from being prepared.
        return all([prepare(p) for p in wanted])
    for p in preparations[:1]:
        for line in status_lines(Path(p.data_root), p.source, _source_root(p)):
            print(line)
    return True


def prepare(p: Preparation) -> bool:
    """Make one task ready where that is possible, print what came of it, and return whether it is ready."""
    task, root = get_task(p.task or ""), Path(p.data_root)
    if task.id in SHOT_ROWS:
        return _prepare_shots(SHOT_ROWS[task.id], p)
    if task.id in LOADERS:
        print(f"{task.id}: ready, as its plugin loads it", flush=True)
        return True
    if task.suite == "mini":
        if not mini_ready(task, root):
            build_mini(task, root)
        ready = mini_path(task.id, root).is_file()
        print(mini_line(task, root) if ready else f"{task.id}: cannot be stored in {root}", flush=True)
        return ready
    return _prepare_vtab(task, p)


def _prepare_vtab(task: TaskInfo, p: Preparation) -> bool:
    root = Path(p.data_root)
    try:
        made = _build_or_fetch(task, p)
    except DataError as error:
        print(f"{task.id}: {error}", file=sys.stderr, flush=True)
        print(*vtab_instructions(task, source_roots(root, p.source, _source_root(p))), sep="\n", flush=True)
        return False
    directory = split_path(task.id, "test", root, variant(p.source, p.codec, p.resize)).parent
    print(f"{task.id}: {'made' if made else 'ready'} from source={p.source} in {directory}", flush=True)
    return True


def _build_or_fetch(task: TaskInfo, p: Preparation) -> bool:
    """Build the cache, after a download of missing raw files or a build of a missing copy where that is allowed.

    Returns:
        False if all was there.

    Raises:
        DataError: if it cannot be built.
    """
    root = Path(p.data_root)
    folder = source_roots(root, p.source, _source_root(p))[p.source]
    make = partial(build, task, root, p.source, p.codec, p.resize, _source_root(p), progress=show_progress)
    try:
        return make()
    except MissingCopy:
        if not p.build:
            raise
        build_copy(folder, task.id)
    except MissingData as error:
        allowed = p.source == "raw" and p.download != "no"
        if not (allowed and fetch_missing(raw_folder(folder, task.id), p.download == "yes", error)):
            raise
    return make()


def fetch_missing(folder: Path, big: bool, reason: DataError) -> bool:
    """Download and unpack the archives of a raw folder, after printing what that takes.

    Args:
        folder: of one data set.
        big: whether more than 10 GB were asked for.
        reason: what was missing, printed first.

    Returns:
        False where the data set has no archives or all are there already.

    Raises:
        DataError: where the download is too big for what was asked or for the disk, or fails.
    """
    todo = still_to_fetch(folder)
    if not todo:
        return False
    gigabytes, there = sum(file.size for file in todo) / 1e9, folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free / 1e9
    print(
        f"{reason}\nfetching {len(todo)} file(s), {gigabytes:.2f} GB, into {folder} ({free:.0f} GB free; unpacked "
        f"about as much again; {gigabytes * 8000 / 100 / 60:.0f} min at 100 Mbit/s)",
        flush=True,
    )
    if gigabytes > BIG and not big:
        raise DataError(f"{gigabytes:.1f} GB is a big download; add download=yes to start it (it resumes if stopped)")
    if 2 * gigabytes > free:
        raise DataError(
            f"{2 * gigabytes:.1f} GB are needed but {free:.1f} GB are free; point data_root= to another disk"
        )
    for file in todo:
        fetch(file, folder, progress=partial(show_progress, scale=1e6, unit=" MB"))
        unpack(file, folder)
    return True


def _prepare_shots(row: ShotRow, p: Preparation) -> bool:
    root = Path(p.data_root)
    source = _source_root(p) or root / SOURCE_FOLDER
    shots = [k for k in p.shots if k in row.shots]
    try:
        made = build_shots(row, root, source, shots, p.list_seeds, p.image_size, show_progress)
    except DataError as error:
        print(f"{row.id}: {error}", file=sys.stderr, flush=True)
        print(*shots_instructions(row, source), sep="\n", flush=True)
        return False
    directory = eval_path(row.id, root, "test", p.image_size).parent
    print(f"{row.id}: {'made' if made else 'ready'} from {source} in {directory}", flush=True)
    return True


def _source_root(p: Preparation) -> Path | None:
    return None if p.source_root is None else Path(p.source_root)


def show_progress(name: str, done: int, total: int, scale: float = 1, unit: str = "") -> None:
    """Count on a terminal, in units of `scale`; silent elsewhere."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r  {name}: {done / scale:.0f}/{total / scale:.0f}{unit}", end=end, file=sys.stderr, flush=True)
