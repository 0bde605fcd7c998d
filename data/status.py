"""What ``prepare.py`` prints: the state of every task under a data root, and what a VTAB task needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data.base import STORED_SPLITS, TaskInfo
from data.cache import mini_path, mini_ready, vtab_missing, vtab_path
from data.tasks import SUITES, TASKS
from data.vtab_table import VTAB_BY_ID, VtabRow


def download_text(row: VtabRow) -> str:
    """The size of the automatic download in GB (1e9 bytes), or that it is manual."""
    return "manual" if row.download_bytes is None else f"{row.download_bytes / 1e9:.2f} GB"


def status_lines(data_root: Path) -> Iterator[str]:
    """One line per task, mini tasks first, with a header. Sound caches count as ready, damaged ones as missing."""
    yield f"data_root={data_root}"
    yield f"{'dataset':<20}{'group':<13}{'classes':>7}{'test':>7}  {'status':<9}needs"
    for suite in ("mini", "vtab"):
        for task_id in SUITES[suite]:
            task = TASKS[task_id]
            if suite == "mini":
                ready, needs = mini_ready(task, data_root), "nothing: made at first use"
            else:
                ready, needs = not vtab_missing(task, data_root), _vtab_needs(VTAB_BY_ID[task_id])
            yield (f"{task_id:<20}{task.group:<13}{task.num_classes:>7}{task.split_sizes['test']:>7}  "
                   f"{'ready' if ready else 'missing':<9}{needs}")  # fmt: skip


def _vtab_needs(row: VtabRow) -> str:
    return f"{row.builder}, {download_text(row)}, licence: {row.licence}"


def mini_line(task: TaskInfo, data_root: Path) -> str:
    """What a prepared mini task is, in one line."""
    sizes = ", ".join(f"{split} {task.split_sizes[split]}" for split in STORED_SPLITS)
    return f"{task.id}: ready ({sizes}; {task.num_classes} classes) in {mini_path(task.id, data_root)}"


def vtab_instructions(task: TaskInfo, data_root: Path) -> Iterator[str]:
    """What a user has to put where to make a VTAB task ready, in full lines."""
    row = VTAB_BY_ID[task.id]
    missing = vtab_missing(task, data_root)
    if not missing:
        yield f"{task.id}: ready in {data_root / 'vtab' / task.id}"
        return
    side = task.image_size
    yield f"{task.id}: missing {', '.join(missing)}. This version does not yet prepare VTAB tasks by itself."
    yield f"  source    {row.builder} (tensorflow-datasets), or folder {row.noah_folder}/ of the NOAH vtab-1k archive"
    yield f"  download  {'by hand: ' + row.manual if row.manual else download_text(row)}"
    yield f"  licence   {row.licence} (a short note: the terms on the data set's own page decide)"
    yield "  place     these safetensors files, made by you:"
    for split in STORED_SPLITS:
        count = task.split_sizes[split]
        yield f"            {vtab_path(task.id, split, data_root)}"
        yield f"              tensors images uint8 ({count}, 3, {side}, {side}) and labels int64 ({count},)"
    yield f"            images RGB, resized to {side}x{side} (bicubic, aspect ratio ignored)"
    yield f"            labels 0 to {task.num_classes - 1}; optional metadata: source = raw, tfds or noah"
