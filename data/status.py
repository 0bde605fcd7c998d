"""What ``prepare.py`` prints: the state of every task under a data root, and what a VTAB task needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.archives import ARCHIVES
from data.base import STORED_SPLITS, TaskInfo
from data.build import FOLDERS
from data.cache import mini_path, mini_ready
from data.load import prepared
from data.sources.raw import REFUSED, raw_folder
from data.tasks import SUITES, TASKS
from data.vtab_table import VTAB_BY_ID, VtabRow


def download_text(row: VtabRow) -> str:
    """The size of the automatic download in GB (1e9 bytes), or that it is manual."""
    return "manual" if row.download_bytes is None else f"{row.download_bytes / 1e9:.2f} GB"


def status_lines(data_root: Path) -> Iterator[str]:
    """One line per task, mini tasks first, with a header.

    Damaged mini caches count as missing; of VTAB caches only the JSON is read, their content is checked at each load.
    """
    yield f"data_root={data_root}"
    yield f"{'dataset':<20}{'group':<13}{'classes':>7}{'test':>7}  {'status':<9}needs"
    for suite in ("mini", "vtab"):
        for task_id in SUITES[suite]:
            task = TASKS[task_id]
            if suite == "mini":
                ready, needs = mini_ready(task, data_root), "nothing: made at first use"
            else:
                there = prepared(task, data_root)
                whole = [source for source, splits in there.items() if len(splits) == len(STORED_SPLITS)]
                ready, needs = bool(whole), _vtab_needs(VTAB_BY_ID[task_id])
                if there:
                    needs = ", ".join(f"source={s}: {'all' if s in whole else 'only ' + ' '.join(splits)}"
                                      for s, splits in there.items())  # fmt: skip
            state = "ready" if ready else "partly" if suite == "vtab" and there else "missing"
            yield (f"{task_id:<20}{task.group:<13}{task.num_classes:>7}{task.split_sizes['test']:>7}  "
                   f"{state:<9}{needs}")  # fmt: skip


def _vtab_needs(row: VtabRow) -> str:
    return f"{row.builder}, {download_text(row)}, licence: {row.licence}"


def mini_line(task: TaskInfo, data_root: Path) -> str:
    """What a prepared mini task is, in one line."""
    sizes = ", ".join(f"{split} {task.split_sizes[split]}" for split in STORED_SPLITS)
    return f"{task.id}: ready ({sizes}; {task.num_classes} classes) in {mini_path(task.id, data_root)}"


def vtab_instructions(task: TaskInfo, data_root: Path) -> Iterator[str]:
    """What a user has to put where so that a VTAB task can be prepared, in full lines."""
    row = VTAB_BY_ID[task.id]
    yield f"  licence      {row.licence} (a short note: the terms on the data set's own page decide)"
    if task.id in REFUSED:
        yield f"  source=raw   refused: {REFUSED[task.id]}"
    else:
        folder = raw_folder(data_root / FOLDERS["raw"], task.id)
        yield f"  source=raw   {'by hand: ' + row.manual if row.manual else download_text(row)}, unpacked in {folder}"
        for file in ARCHIVES.get(folder.name, ()):
            yield f"               {file.url}"
    yield f"  source=noah  folder {row.noah_folder}/ of the vtab-1k archive in {data_root / FOLDERS['noah']}"
    yield f"  source=tfds  {row.builder}, as array_record or tfrecord, in {data_root / FOLDERS['tfds']}"
    yield "               (build=yes makes it where TensorFlow is installed)"
