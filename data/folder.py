"""One's own images: found by `data.layout`, split where they are not, and cached.

One pool is split seeded and class-balanced; of given parts a missing val or test is taken from train.
"""

from __future__ import annotations

import hashlib
import logging
import re
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.base import STORED_SPLITS, DataError, Split, TaskInfo, joined, parts_of
from data.cache import read_info, read_split, write_split
from data.decode import OWN_RULES
from data.images import prepare_image
from data.layout import user_layout
from data.sources.lists import Rows, file_name
from data.sources.reading import read_bytes
from data.sources.repeats import check_disjoint, distinct, warn_of_copies
from data.stratify import stratified

log = logging.getLogger(f"glora.{__name__}")

HELD_OUT = 0.2
"""The share of images taken for a test split, and then for val, where neither splits nor sizes are given."""


class OwnImages(NamedTuple):
    """A user's data set: its task, the files and labels of each split, a digest of files and times, and class names."""

    info: TaskInfo
    rows: dict[str, Rows]
    digest: str
    classes: tuple[str, ...] = ()


def _split(parts: dict[str, Rows], root: Path, wanted: dict[str, int | None]) -> dict[str, Rows]:
    """train, val and test: as given, or drawn from the rest by the sizes wanted."""
    for name in ("val", "test"):
        if name in parts and wanted[name] is not None:
            raise DataError(
                f"dataset.{name}={wanted[name]} is given, but {root} has its own {name} images; leave it out"
            )
    for name, size in wanted.items():
        if size is not None and size < 1:
            raise DataError(f"dataset.{name}={size} must be at least 1")
    pool = parts.get("train") or parts.get("all") or []
    total = len(pool)
    test = 0 if "test" in parts else wanted["test"] or round(HELD_OUT * total)
    val = 0 if "val" in parts else wanted["val"] or round(HELD_OUT * (total - test))
    train = wanted["train"] or total - test - val
    if min(train, val + len(parts.get("val", [])), test + len(parts.get("test", []))) < 1 or train + val + test > total:
        raise DataError(f"{root} has {total} images to split, which is not enough for train={train}, val={val}, "
                        f"test={test}; set dataset.train=, dataset.val=, dataset.test=")  # fmt: skip
    labels = np.array([label for _, label in pool])
    # Sorted by path first, so that the same files give the same splits on every machine.
    chosen = stratified(labels, [train, val, test], np.random.Generator(np.random.PCG64(0)))
    drawn = [[pool[i] for i in sorted(part)] for part in chosen]
    return {"train800": drawn[0], "val200": parts.get("val") or drawn[1], "test": parts.get("test") or drawn[2]}


@lru_cache(maxsize=8)
def own_images(
    root: Path, image_size: int, train: int | None = None, val: int | None = None, test: int | None = None
) -> OwnImages:
    """The user's images under `root`, split; nothing is decoded yet.

    `train`, `val` and `test` are numbers of images (None: all that is left, a fifth, a fifth). The task's split
    names are those of VTAB-1K, whatever the sizes.

    Raises:
        DataError: on anything unclear.
    """
    layout = user_layout(root)
    listed = {part: distinct(rows, root) for part, rows in layout.parts.items()}
    check_disjoint(listed)
    parts = {part: [(row.file, row.label) for row in rows] for part, rows in listed.items()}
    classes = len(layout.classes)
    if classes < 2:
        raise DataError(f"{root} has {classes} class; at least two class folders or labels are needed")
    rows = _split(parts, root, {"train": train, "val": val, "test": test})
    found = np.bincount([label for _, label in rows["train800"]], minlength=classes)
    if found.min() == 0:
        raise DataError(f"{layout.classes[int(found.argmin())]} has no training image in {root}; give it more "
                        "images, or leave it out")  # fmt: skip
    names, times = hashlib.sha256(), hashlib.sha256()
    for split in STORED_SPLITS:
        for path, label in rows[split]:
            try:
                stat = path.stat()
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}), named in {root}") from error
            line = f"{split}/{path.relative_to(root)}/{label}/{stat.st_size}\n"
            names.update(line.encode(errors="surrogateescape"))  # bytes of a name that are no UTF-8, as they are
            times.update(str(stat.st_mtime_ns).encode())
    sizes = {split: len(rows[split]) for split in STORED_SPLITS}
    sizes = {"train800": sizes["train800"], "val200": sizes["val200"],
             "train800val200": sizes["train800"] + sizes["val200"], "test": sizes["test"]}  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-") or "images"
    task_id = f"folder-{slug}-{names.hexdigest()[:6]}"
    title, *called = (
        Path(name).name.encode(errors="surrogateescape").decode(errors="replace")  # tables are UTF-8
        for name in (str(root.resolve()), *layout.classes)
    )
    info = TaskInfo(task_id, title, "own", "own", classes, sizes, image_size)
    digest = hashlib.sha256((names.hexdigest() + times.hexdigest()).encode()).hexdigest()
    return OwnImages(info, rows, digest, tuple(called))


def load_own(own: OwnImages, split: str, data_root: Path, codec: str = "raw", resize: str = "bicubic") -> Split:
    """A split of the user's images from the cache, which is made at first use and again when a file changed."""
    parts = []
    for name in parts_of(split):
        size, rows = own.info.image_size, own.rows[name]
        folder = data_root / "own" / f"{own.info.id}-{own.digest[:8]}-{size}-{codec}-{resize}-{OWN_RULES}"
        path = folder / f"{name}.safetensors"

        def get(i: int, rows: Rows = rows, size: int = size) -> tuple[np.ndarray, int]:
            file, label = rows[i]
            return prepare_image(read_bytes(file), str(file), size, codec, resize, own=True), label

        try:
            part = read_split(path, "it is made now")
        except DataError as error:
            if name == "train800":  # what every run makes first, so that this is said once
                warn_of_copies(own.rows, own.info.title)
            # A first use is no news; what was there and cannot be read is.
            log.log(logging.INFO if read_info(path) is None else logging.WARNING, "%s (%d images)", error, len(rows))
            info = {"source": "folder", "codec": codec, "resize": resize, "split": name}
            write_split(path, len(rows), size, get, info, own.info.num_classes, name=partial(file_name, rows))
            part = read_split(path, "")
        parts.append(part)
    return joined(parts)
