"""One's own images: class folders or lists, with or without splits of their own.

root/<class>/*.jpg                         split here, seeded and class-balanced
root/{train,val,test}/<class>/*.jpg        as given (also training, valid, ...); a missing val or test is from train
root/list.txt, or root/{train,val,test}.txt    lines of "path label", paths relative to root, labels from 0
"""

from __future__ import annotations

import hashlib
import logging
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.base import STORED_SPLITS, DataError, Split, TaskInfo, joined, parts_of
from data.images import prepare_image
from data.sources.base import read_list
from data.sources.checks import files_below, read_bytes
from data.store import read_info, read_split, write_split
from data.stratify import stratified

log = logging.getLogger("glora")

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
HELD_OUT = 0.2
"""The share of images taken for a test split, and then for val, where neither splits nor sizes are given."""

SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of the folders or lists of a part, in capitals or not."""

Rows = list[tuple[Path, int]]


class OwnImages(NamedTuple):
    """A user's data set: its task, the files and labels of each stored split, and a digest of files and times."""

    info: TaskInfo
    rows: dict[str, Rows]
    digest: str


def _class_rows(home: Path, root: Path, names: list[str]) -> Rows:
    rows, ignored = [], []
    for label, name in enumerate(names):
        for path in files_below(home / name) if (home / name).is_dir() else []:
            if path.name.startswith("."):
                continue
            if path.is_dir():
                raise DataError(f"{path} is a link to a folder, which is not followed; copy its images into it")
            if path.suffix.lower() not in SUFFIXES:
                ignored.append(path)
            elif not path.resolve().is_relative_to(root.resolve()):
                raise DataError(f"{path} is a link that leaves {root}; copy the image into it")
            else:
                rows.append((path, label))
    if ignored:
        log.warning("%d files under %s are no images and are left out, the first is %s", len(ignored), home, ignored[0])
    return rows


def _folders(home: Path) -> list[str]:
    return sorted(p.name for p in home.iterdir() if p.is_dir() and not p.name.startswith("."))


def _by_part(paths: list[Path], root: Path) -> dict[str, Path]:
    """The paths whose names are those of parts, by part. Raises DataError where two are of one part."""
    found: dict[str, Path] = {}
    for part, spellings in SPELLINGS.items():
        here = [p for p in paths if p.stem.lower() in spellings]
        if len(here) > 1:
            raise DataError(f"{root} has {' and '.join(p.name for p in here)}, which are both for {part}; keep one")
        if here:
            found[part] = here[0]
    return found


def _given(root: Path) -> tuple[dict[str, Rows], int]:
    """The parts the user made ("train", or "all"; "val"; "test"), and the number of classes."""
    if not root.is_dir():
        raise DataError(f"dataset.root={root} is not a folder")
    try:
        lists = _by_part(sorted(p for p in root.glob("*.txt") if p.is_file()), root)
        if (root / "list.txt").is_file():
            if lists:
                beside = ", ".join(p.name for p in lists.values())
                raise DataError(f"{root} has list.txt and {beside}; keep either list.txt or the others")
            lists = {"all": root / "list.txt"}
        return _given_lists(lists, root) if lists else _given_folders(root)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error


def _given_lists(lists: dict[str, Path], root: Path) -> tuple[dict[str, Rows], int]:
    if not {"train", "all"} & set(lists):
        raise DataError(f"{root} has {', '.join(p.name for p in lists.values())} but no train.txt or list.txt")
    parts = {name: read_list(path, 1_000_000) for name, path in lists.items()}
    return parts, 1 + max((label for rows in parts.values() for _, label in rows), default=0)


def _given_folders(root: Path) -> tuple[dict[str, Rows], int]:
    folders = _folders(root)
    homes = _by_part([root / name for name in folders], root)
    if not homes:
        return {"all": _class_rows(root, root, folders)}, len(folders)
    others = sorted(set(folders) - {home.name for home in homes.values()})
    if "train" not in homes:
        given, classes = ", ".join(home.name for home in homes.values()), ", ".join(others[:3]) or "none here"
        raise DataError(f"{root} has the folder {given}, which is no class, and no train; put the class folders "
                        f"({classes}) into {root / 'train'}, or use a list.txt")  # fmt: skip
    if others:
        log.warning("%s has parts of its own; left out beside them: %s", root, ", ".join(others))
    names, parts = _folders(homes["train"]), {}
    for part, home in homes.items():
        strange = sorted(set(_folders(home)) - set(names))
        if strange:
            raise DataError(f"{home} has the class {strange[0]}, which {homes['train']} has not")
        parts[part] = _class_rows(home, root, names)
    return parts, len(names)


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
    """The user's images under ``root``, split; nothing is decoded yet.

    ``train``, ``val`` and ``test`` are numbers of images (None: all that is left, a fifth, a fifth). The task's split
    names are those of VTAB-1K, whatever the sizes. Raises DataError on anything unclear.
    """
    parts, classes = _given(root)
    if classes < 2:
        raise DataError(f"{root} has {classes} class; at least two class folders or labels are needed")
    rows = _split(parts, root, {"train": train, "val": val, "test": test})
    found = np.bincount([label for _, label in rows["train800"]], minlength=classes)
    if found.min() == 0:
        raise DataError(f"class {int(found.argmin())} of {classes} has no training image in {root}")
    names, times = hashlib.sha256(), hashlib.sha256()
    for split in STORED_SPLITS:
        for path, label in rows[split]:
            try:
                stat = path.stat()
            except OSError as error:
                raise DataError(f"{path} cannot be read ({error.strerror}), named in {root}") from error
            names.update(f"{split}/{path.relative_to(root)}/{label}/{stat.st_size}\n".encode())
            times.update(str(stat.st_mtime_ns).encode())
    sizes = {split: len(rows[split]) for split in STORED_SPLITS}
    sizes = {"train800": sizes["train800"], "val200": sizes["val200"],
             "train800val200": sizes["train800"] + sizes["val200"], "test": sizes["test"]}  # fmt: skip
    slug = re.sub(r"[^a-z0-9]+", "-", root.resolve().name.lower()).strip("-") or "images"
    task_id = f"folder-{slug}-{names.hexdigest()[:6]}"
    info = TaskInfo(task_id, root.resolve().name, "own", "own", classes, sizes, image_size)
    return OwnImages(info, rows, hashlib.sha256((names.hexdigest() + times.hexdigest()).encode()).hexdigest())


def load_own(own: OwnImages, split: str, data_root: Path, codec: str = "raw", resize: str = "bicubic") -> Split:
    """A split of the user's images from the cache, which is made at first use and again when a file changed."""
    parts = []
    for name in parts_of(split):
        size, rows = own.info.image_size, own.rows[name]
        folder = data_root / "own" / f"{own.info.id}-{own.digest[:8]}-{size}-{codec}-{resize}"
        path = folder / f"{name}.safetensors"

        def get(i: int, rows: Rows = rows, size: int = size) -> tuple[np.ndarray, int]:
            picture, label = rows[i]
            return prepare_image(read_bytes(picture), str(picture), size, codec, resize, upright=True), label

        try:
            part = read_split(path, "it is made now")
        except DataError as error:
            # A first use is no news; what was there and cannot be read is.
            log.log(logging.INFO if read_info(path) is None else logging.WARNING, "%s (%d images)", error, len(rows))
            info = {"source": "folder", "codec": codec, "resize": resize, "split": name}
            write_split(path, len(rows), size, get, info, own.info.num_classes)
            part = read_split(path, "")
        parts.append(part)
    return joined(parts)
