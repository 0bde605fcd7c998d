"""`load_split`: the one way into the data."""

from __future__ import annotations

from pathlib import Path

from data.base import STORED_SPLITS, DataError, Split, TaskInfo, joined, parts_of, user_path
from data.build import split_path, variant
from data.cache import read_info, read_split
from data.images import CODECS, RESIZES
from data.mini_cache import load_mini
from data.shot_table import SHOT_ROWS
from data.tasks import LOADERS, check_split, get_task
from data.vtab_table import VTAB_SOURCES


def load_split(
    task_id: str,
    split: str,
    *,
    data_root: Path | str,
    source: str | None = None,
    codec: str = "raw",
    resize: str = "bicubic",
) -> Split:
    """Images and labels of one split; those of VTAB tasks are memory-mapped.

    Mini tasks are rendered at first use and cached under `data_root`; VTAB tasks must be prepared there. `source`
    ('raw', 'tfds', 'noah' or None for whichever was prepared), `codec` and `resize` concern VTAB tasks only.

    Raises:
        DataError: on unknown names, on missing or damaged VTAB files, and on a source given for a mini task.
    """
    task = get_task(task_id)
    check_split(task, split)
    for name, value, allowed in (("codec", codec, CODECS), ("resize", resize, RESIZES)):
        if value not in allowed:
            raise DataError(f"unknown {name} '{value}'; choose one of {', '.join(allowed)}")
    if source is not None and source not in VTAB_SOURCES:
        raise DataError(f"unknown source '{source}'; a VTAB task's images come from {', '.join(VTAB_SOURCES)}")
    root = user_path(data_root, "data_root")
    if task.id in SHOT_ROWS:
        raise DataError(f"dataset {task.id} has a training list per number of shots and list seed: use load_shots")
    if task.id in LOADERS:
        return joined([LOADERS[task.id](part, root) for part in parts_of(split)])
    if task.suite != "mini":
        return load_vtab(task, split, root, source, codec, resize)
    for name, chosen, default in (("source", source, None), ("codec", codec, "raw"), ("resize", resize, "bicubic")):
        if chosen != default:
            raise DataError(f"dataset {task.id} is made on this machine and has no {name}; leave {name}={chosen} out")
    return load_mini(task, split, root)


def prepared(task: TaskInfo, data_root: Path, codec: str = "raw", resize: str = "bicubic") -> dict[str, list[str]]:
    """For each source with anything prepared, the stored splits that are there. Looks at names and JSON only."""
    found = {}
    for source in VTAB_SOURCES:
        name = variant(source, codec, resize)
        there = [s for s in STORED_SPLITS if read_info(split_path(task.id, s, data_root, name))]
        if there:
            found[source] = there
    return found


def load_vtab(task: TaskInfo, split: str, data_root: Path, source: str | None, codec: str, resize: str) -> Split:
    """A split of a VTAB task from its prepared file(s); raises DataError saying how to obtain them."""
    overrides = f"dataset={task.id}" + (f" codec={codec}" if codec != "raw" else "")
    overrides += (f" resize={resize}" if resize != "bicubic" else "") + f" data_root={data_root}"
    wanted = parts_of(split)
    there = prepared(task, data_root, codec, resize)
    ready = [s for s, splits in there.items() if set(wanted) <= set(splits) and source in (None, s)]
    if not ready:
        asked = f" from source={source}" if source else ""
        has = f" (prepared: {', '.join(f'source={s}' for s in there)})" if there else ""
        raise DataError(
            f"dataset {task.id} is not prepared{asked} in {data_root / 'vtab' / task.id}{has}. "
            f"Type: python prepare.py {overrides} source={source or 'raw'}. Tasks that need no download: sweep=mini"
        )
    if len(ready) > 1:
        raise DataError(f"dataset {task.id} is prepared from {' and '.join(ready)}; say which: source={ready[0]}")
    remedy = f"make it anew: python prepare.py {overrides} source={ready[0]}"
    parts = []
    for name in wanted:
        path = split_path(task.id, name, data_root, variant(ready[0], codec, resize))
        part = read_split(path, remedy)
        if len(part.labels) != task.split_sizes[name] or int(part.labels.max()) >= task.num_classes:
            raise DataError(
                f"{path} has {len(part.labels)} images and labels up to {int(part.labels.max())}; {name} of "
                f"{task.id} has {task.split_sizes[name]} in {task.num_classes} classes; {remedy}"
            )
        parts.append(part)
    return joined(parts)
