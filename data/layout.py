"""What a user's folder holds: its lists, or which of its folders are classes and which are parts.

root/<class>/*.jpg                         one pool, split later
root/{train,val,test}/<class>/*.jpg        as given (also training, valid, ...)
root/list.txt, or root/{train,val,test}.txt    lines of "path label", paths relative to root, labels from 0

A folder with the name of a part is one if it holds class folders, and a class if it holds images. What could be either
is refused: a wrong guess would train on wrong labels without a word.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from data.base import DataError
from data.sources.base import Row, read_rows
from data.sources.reading import files_below, is_junk, real_paths

log = logging.getLogger(f"glora.{__name__}")

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}

SPELLINGS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
"""Names of the folders or lists of a part, in capitals or not."""


class Layout(NamedTuple):
    """The parts a user made ("train", or "all"; "val"; "test"), and how each label's class is called in messages."""

    parts: dict[str, list[Row]]
    classes: list[str]


@dataclass(frozen=True)
class Folder:
    """A folder at the top: its images at any depth, sorted, and its other files; junk is in neither."""

    path: Path
    images: list[Path]
    others: list[Path]

    @property
    def direct(self) -> bool:
        """Whether images lie in it without a folder between."""
        return any(path.parent == self.path for path in self.images)

    @property
    def inner(self) -> set[str]:
        """Its folders that hold images."""
        return {path.relative_to(self.path).parts[0] for path in self.images if path.parent != self.path}


def user_layout(root: Path) -> Layout:
    """The layout under `root`. Raises DataError on anything unclear."""
    if not root.is_dir():
        raise DataError(f"dataset.root={root} is not a folder")
    try:
        lists = _by_part(sorted(p for p in root.glob("*.txt") if p.is_file()), root)
        if (root / "list.txt").is_file():
            if lists:
                beside = ", ".join(p.name for p in lists.values())
                raise DataError(f"{root} has list.txt and {beside}; keep either list.txt or the others")
            lists = {"all": root / "list.txt"}
        return _of_lists(lists, root) if lists else _of_folders(root)
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read ({error.strerror})") from error


def _part(name: str) -> str | None:
    return next((part for part, spellings in SPELLINGS.items() if name.lower() in spellings), None)


def _by_part(paths: list[Path], root: Path) -> dict[str, Path]:
    """The paths whose names are those of parts, by part. Raises DataError where two are of one part."""
    found: dict[str, Path] = {}
    for part in SPELLINGS:
        here = [p for p in paths if _part(p.stem) == part]
        if len(here) > 1:
            raise DataError(f"{root} has {' and '.join(p.name for p in here)}, which are both for {part}; keep one")
        if here:
            found[part] = here[0]
    return found


def _of_lists(lists: dict[str, Path], root: Path) -> Layout:
    if not {"train", "all"} & set(lists):
        raise DataError(f"{root} has {', '.join(p.name for p in lists.values())} but no train.txt or list.txt")
    parts = {name: read_rows(path, 1_000_000) for name, path in lists.items()}
    classes = 1 + max((row.label for rows in parts.values() for row in rows), default=-1)
    return Layout(parts, [f"label {i} of 0 to {classes - 1}" for i in range(classes)])


def _folders(parent: Path) -> list[str]:
    return sorted(p.name for p in parent.iterdir() if p.is_dir() and not is_junk(p.name))


def _scan(folder: Path) -> Folder:
    images: list[Path] = []
    others: list[Path] = []
    for path in files_below(folder):
        (images if path.suffix.lower() in SUFFIXES else others).append(path)
    return Folder(folder, images, others)


def _of_folders(root: Path) -> Layout:
    names = _folders(root)
    stray = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and not is_junk(p.name) and p.is_file())
    if stray and names:
        log.warning("%d images lie in no folder of %s and are left out, the first is %s", len(stray), root, stray[0])
    found = {name: _scan(root / name) for name in names} if any(map(_part, names)) else {}
    split_folders = _by_part([folder.path for folder in _parts(found)], root)
    if not split_folders:
        return _rows(root, root, {"all": root})
    _check_beside(found, {part: found[path.name] for part, path in split_folders.items()}, root)
    train = split_folders["train"]
    classes = _folders(train)
    for path in split_folders.values():
        strange = sorted(set(_folders(path)) - set(classes))
        if strange:
            raise DataError(f"{path} has the class {strange[0]}, which {train} has not")
    return _rows(root, train, split_folders)


def _parts(found: dict[str, Folder]) -> list[Folder]:
    """The folders that are parts; none where all are classes. Raises DataError for one that could be either."""
    named, into = [folder for name, folder in found.items() if _part(name)], "put its images into class folders"
    for folder in named:
        if not folder.images and not _folders(folder.path):
            raise DataError(f"{folder.path} holds no image; delete it, or fill it: with class folders it is a split, "
                            "with images a class")  # fmt: skip
        if folder.direct and folder.inner:
            seen = f"images and folders of images ({_few(folder.inner)})"
            raise _unclear(folder, seen, "move its images into those folders", "move the images of those up into it")
    parts, classes = [f for f in named if not f.direct], [f for f in named if f.direct]
    if parts and classes:
        other, up = parts[0].path, f"move the images of {parts[0].path}'s folders up into it"
        raise _unclear(classes[0], f"images, and {other} beside it folders", into, up)
    if len(classes) > 1:
        seen = f"images and no folders, as {classes[1].path} does"
        raise _unclear(classes[0], seen, into, "give all such folders but one other names")
    if classes and not any(folder.images for folder in found.values() if folder is not classes[0]):
        seen = "images and no folders, and no images lie beside it"
        raise _unclear(classes[0], seen, into, "put the folders of the other classes beside it")
    if classes:
        log.info("%s holds images and no folders: it is read as a class", classes[0].path)
    return parts


def _check_beside(found: dict[str, Folder], parts: dict[str, Folder], root: Path) -> None:
    """Raise DataError where what lies beside the parts could be classes, the parts' names then being one's too.

    What is left out for good reason is said: folders without images, further parts (those with the classes of train),
    and anything beside two or more parts, which leave no doubt.
    """
    others = [folder for name, folder in found.items() if not _part(name)]
    first, up = next(iter(parts.values())), "move the images of its folders up into it"
    inside = _folders(parts.get("train", first).path)
    seen = f"folders ({_few(inside)})"
    if "train" not in parts:
        classes = f"({_few(f.path.name for f in others)}) " if others else ""
        split = f"put the class folders {classes}into {root / 'train'}"
        raise _unclear(first, f"{seen}, and there is no folder train beside it", split, up)
    unlike = _few(f.path.name for f in others if f.direct or not f.inner <= set(inside))
    if unlike and len(parts) == 1:
        split = f"move {unlike} out of {root}, or into {first.path} if they are its classes"
        raise _unclear(first, f"{seen}, and {unlike} beside it images", split, up)
    if others:
        log.warning("%s has parts of its own; left out beside them: %s", root, ", ".join(f.path.name for f in others))


def _few(names: Iterable[str]) -> str:
    first = sorted(names)
    return ", ".join(first[:3]) + (", ..." if len(first) > 3 else "")


def _unclear(folder: Folder, holds: str, split: str, a_class: str) -> DataError:
    """That `folder` could be a split or a class, by what it `holds`; and what to do where it is either."""
    root, part = folder.path.parent, _part(folder.path.name)
    example = folder.images[0].relative_to(root) if folder.images else Path(folder.path.name, "1.jpg")
    return DataError(f"{folder.path} holds {holds}: it could be the {part} split or a class. If it is a split, "
                     f"{split}; if it is a class, {a_class}; or name all images in {root / 'list.txt'}, in lines such "
                     f"as '{example} 0'")  # fmt: skip


def _rows(root: Path, train: Path, split_folders: dict[str, Path]) -> Layout:
    """The images of each part by the class folders of `train`; DataError for an empty one, or a link out of root."""
    names, real, inside = _folders(train), real_paths(), os.path.join(os.path.realpath(root), "")
    rows: dict[str, list[Row]] = {}
    ignored: list[Path] = []
    for part, parent in split_folders.items():
        rows[part] = []
        for label, name in enumerate(names):
            folder = _scan(parent / name) if (parent / name).is_dir() else Folder(parent / name, [], [])
            if parent == train and not folder.images:
                kinds = f" but {folder.others[0].name}" if folder.others else ""
                raise DataError(f"the class folder {folder.path} holds no image{kinds}; fill it, or delete it (images "
                                f"end in {', '.join(sorted(SUFFIXES))})")  # fmt: skip
            for path in folder.images + folder.others:
                if path.is_dir():
                    raise DataError(f"{path} is a link to a folder, which is not followed; copy its images into it")
            for path in folder.images:
                if not real(path).startswith(inside):
                    raise DataError(f"{path} is a link that leaves {root}; copy the image into it")
            rows[part] += [Row(path, label, str(path)) for path in folder.images]
            ignored += folder.others
    if ignored:
        log.warning("%d files under %s are no images and are left out, the first is %s", len(ignored), root, ignored[0])
    return Layout(rows, [f"class {train / name}" for name in names])
