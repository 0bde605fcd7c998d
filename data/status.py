"""What `prepare.py` prints: the state of every task under a data root, and what a VTAB task needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from data.archives import ARCHIVES, still_to_fetch
from data.base import STORED_SPLITS, TaskInfo
from data.build import source_roots, split_path, variant
from data.load import prepared
from data.mini_cache import mini_path, mini_ready
from data.shot_table import REPOSITORY, SHOT_ROWS
from data.shots import shots_state
from data.sources.noah import spellings as noah_spellings
from data.sources.raw import REFUSED, raw_folder
from data.tasks import SUITES, TASKS
from data.vtab_table import MANUAL_FILES, VTAB_BY_ID, VtabRow


def size_text(size: int) -> str:
    """Bytes as GB (1e9)."""
    return f"{size / 1e9:.2f} GB"


def status_lines(data_root: Path, source: str = "raw", source_root: Path | None = None) -> Iterator[str]:
    """One line per task, mini tasks first, with a header: ready, partly, missing, or manual (a step by hand is next).

    What a task that is not ready needs is said for `source` (in `source_root` where that is given). Damaged mini
    caches count as missing; of VTAB caches only the JSON is read, their content is checked at each load.
    """
    yield f"data_root={data_root}"
    yield f"{'dataset':<20}{'group':<13}{'classes':>7}{'test':>7}  {'status':<9}size, and what it needs"
    root = source_roots(data_root, source, source_root)[source]
    overrides = f" source={source}" * (source != "raw") + (f" source_root={source_root}" if source_root else "")
    for suite in ("mini", "vtab"):
        for task_id in SUITES[suite]:
            task = TASKS[task_id]
            if suite == "mini":
                state, needs = _mini_state(task, data_root)
            else:
                state, needs = _vtab_state(task, data_root, *_needs(VTAB_BY_ID[task_id], source, root, overrides))
            yield (f"{task_id:<20}{task.group:<13}{task.num_classes:>7}{task.split_sizes['test']:>7}  "
                   f"{state:<9}{needs}")  # fmt: skip
    yield from shot_lines(data_root)


def shot_lines(data_root: Path) -> Iterator[str]:
    """One line per few-shot and domain-generalisation set; of the caches only the JSON is read."""
    for row in SHOT_ROWS.values():
        done, total = shots_state(row, data_root)
        state = "ready" if done == total else "partly" if done else "missing"
        needs = (
            f"{done} of {total} files"
            if done
            else f"lists of {REPOSITORY}, images by hand: prepare.py dataset={row.id}"
        )
        yield f"{row.id:<20}{'':<13}{row.num_classes:>7}{row.evals['test'].count:>7}  {state:<9}{needs}"


def _mini_state(task: TaskInfo, data_root: Path) -> tuple[str, str]:
    if mini_ready(task, data_root):
        return "ready", size_text(mini_path(task.id, data_root).stat().st_size)
    return "missing", "nothing: made at first use"


def _vtab_state(task: TaskInfo, data_root: Path, state: str, needs: str) -> tuple[str, str]:
    """The state of a task; `state` and `needs` are what holds where nothing is prepared, see `_needs`."""
    there = prepared(task, data_root)
    if not there:
        return state, needs
    whole = [s for s, splits in there.items() if len(splits) == len(STORED_SPLITS)]
    found = []
    for s, splits in there.items():
        files = [split_path(task.id, split, data_root, variant(s, "raw", "bicubic")) for split in splits]
        size = size_text(sum(file.stat().st_size for file in files))
        found.append(f"{size} from source={s}" + ("" if s in whole else f": only {' '.join(splits)}"))
    return ("ready", ", ".join(found)) if whole else ("partly", f"{', '.join(found)}; for the rest: {needs}")


def _needs(row: VtabRow, source: str, root: Path, overrides: str) -> tuple[str, str]:
    """The state of a task of which nothing is prepared, and its next step for `source`, which lies in `root`.

    `overrides` name both on the command line.
    """
    if source == "raw" and row.id in REFUSED:
        return (
            "manual",
            "no source=raw; put its copy in place: python prepare.py source=noah (or source=tfds) says where",
        )
    if source == "raw":
        folder = raw_folder(root, row.id)
        todo = still_to_fetch(folder)
        fetched = f"{size_text(sum(file.size for file in todo))} to download, licence: {row.licence}"
        absent = [name for name in MANUAL_FILES.get(row.id, ()) if not (folder / name).exists()]
        if absent:
            return "manual", f"put {', '.join(absent)} into {folder}: {row.manual}"
        return "missing", fetched if todo else f"nothing to fetch: python prepare.py dataset={row.id}{overrides}"
    if source == "noah":
        spellings = [root / name for name in noah_spellings(row.id)]
        if not any(path.is_dir() for path in spellings):
            return "manual", f"put the folder {row.noah_folder} of the vtab-1k archive into {root}"
    elif not list((root / row.builder).glob("*/dataset_info.json")):
        if row.manual:
            return "manual", f"put into {root / 'downloads' / 'manual'}: {row.manual}; then build=yes"
        return "missing", f"{row.builder}, {size_text(row.download_bytes or 0)} to download and build with build=yes"
    return "missing", f"nothing to fetch: python prepare.py dataset={row.id}{overrides}"


def mini_line(task: TaskInfo, data_root: Path) -> str:
    """What a prepared mini task is, in one line."""
    sizes = ", ".join(f"{split} {task.split_sizes[split]}" for split in STORED_SPLITS)
    return f"{task.id}: ready ({sizes}; {task.num_classes} classes) in {mini_path(task.id, data_root)}"


def _raw_text(row: VtabRow, folder: Path) -> str:
    files = ARCHIVES.get(folder.name, ())
    return f"by hand: {row.manual}" if row.manual else size_text(sum(file.size for file in files))


def vtab_instructions(task: TaskInfo, roots: Mapping[str, Path]) -> Iterator[str]:
    """What a user has to put where so that a VTAB task can be prepared, in full lines; `roots` as of `source_roots`."""
    row = VTAB_BY_ID[task.id]
    yield f"  licence      {row.licence} (a short note: the terms on the data set's own page decide)"
    if task.id in REFUSED:
        yield f"  source=raw   refused: {REFUSED[task.id]}"
    else:
        folder = raw_folder(roots["raw"], task.id)
        yield f"  source=raw   {_raw_text(row, folder)}, unpacked in {folder}"
        for file in ARCHIVES.get(folder.name, ()):
            yield f"               {file.url}"
    yield f"  source=noah  folder {row.noah_folder}/ of the vtab-1k archive in {roots['noah']}"
    size = "by hand" if row.download_bytes is None else size_text(row.download_bytes)
    yield f"  source=tfds  {row.builder} ({size}), as array_record or tfrecord, in {roots['tfds']}"
    yield "               (build=yes makes it where TensorFlow is installed)"
