"""Raw data sets of image files: dtd, flowers102, pets, sun397, eurosat, resisc45, retinopathy, clevr, kitti."""

from __future__ import annotations

import csv
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pydantic import BaseModel, FiniteFloat

from data.base import DataError
from data.labels import VEHICLES, clevr_count, clevr_distance, kitti_distance
from data.sources.base import Listing, file_listing, need, optional
from data.sources.processing import btgraham, limited, recoded
from data.sources.reading import faults, files_below, inside, is_junk, read_label, read_lines, read_text
from data.vtab_table import VTAB_BY_ID

Listings = dict[str, Listing]


def _class_folders(root: Path, count: int) -> list[Path]:
    folders = sorted(p for p in need(root).iterdir() if p.is_dir() and not is_junk(p.name))
    if len(folders) != count:
        raise DataError(f"{root} has {len(folders)} class folders, not {count}; unpack it again")
    return folders


def dtd(folder: Path, task: str) -> Listings:
    """`dtd/labels/{train1,val1,test1}.txt` over `dtd/images`: fold 1 of the official ten."""
    root = folder / "dtd"
    names = {p.name: i for i, p in enumerate(_class_folders(root / "images", 47))}
    out = {}
    for split, file in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        rows = read_lines(root / "labels" / f"{file}.txt")
        files, labels, keys = inside(root / "images", rows), [], [key for _, key in rows]
        for location, key in rows:
            if key.partition("/")[0] not in names:
                raise DataError(f"{location}: '{key}' is in no class folder of {root / 'images'}; fetch it again")
            labels.append(names[key.partition("/")[0]])
        out[split] = file_listing(files, labels, keys)
    return out


def flowers102(folder: Path, task: str) -> Listings:
    """`jpg/image_00001.jpg`, `imagelabels.mat` (from 1) and `setid.mat`."""
    loadmat = optional("scipy.io", "scipy").loadmat
    paths = [need(folder / name) for name in ("imagelabels.mat", "setid.mat")]
    with faults(f"{paths[0]} is damaged"):
        classes = [int(label) - 1 for label in loadmat(paths[0])["labels"].reshape(-1)]
    out = {}
    with faults(f"{paths[1]} is damaged"):
        sets = loadmat(paths[1])
        for split, name in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
            ids = [int(i) for i in sets[name].reshape(-1)]
            if not 1 <= min(ids) <= max(ids) <= len(classes):
                raise ValueError(f"{name} names images {min(ids)} to {max(ids)}, {paths[0].name} has {len(classes)}")
            keys = [f"image_{i:05d}.jpg" for i in ids]
            out[split] = file_listing([folder / "jpg" / key for key in keys], [classes[i - 1] for i in ids], keys)
    return out


def pets(folder: Path, task: str) -> Listings:
    """`annotations/{trainval,test}.txt` (name, class from 1, ...) over `images/<name>.jpg`.

    Twelve of them are encoded anew, as tensorflow-datasets does.
    """
    out = {}
    for split, file in (("train", "trainval"), ("test", "test")):
        named, labels = [], []
        for location, line in read_lines(folder / "annotations" / f"{file}.txt"):
            if line.startswith("#"):
                continue
            with faults(f"{location}: '{line}' is not 'name class ...'"):
                name, label = line.split()[:2]
            named.append((location, f"{name}.jpg"))
            labels.append(read_label(label, VTAB_BY_ID[task].num_classes, location, first=1))
        out[split] = file_listing(inside(folder / "images", named), labels, [key for _, key in named], recoded)
    return out


def sun397(folder: Path, task: str) -> Listings:
    """`SUN397/a/abbey/sun_*.jpg` by the split lists that tensorflow-datasets ships (read as text).

    Images above 120,000 pixels are shrunk first, as tensorflow-datasets does.
    """
    package = find_spec("tensorflow_datasets")
    if package is None or package.origin is None:
        raise DataError("the split lists of sun397 come with tensorflow-datasets: pip install tensorflow-datasets")
    lists = Path(package.origin).parent / "image_classification"
    names = {name: i for i, (_, name) in enumerate(read_lines(lists / "sun397_labels.txt"))}
    out = {}
    for split, file in (("train", "tr"), ("validation", "va"), ("test", "te")):
        keys = [key for _, key in read_lines(lists / f"sun397_tfds_{file}.txt")]
        labels = [names[key.rpartition("/")[0]] for key in keys]
        out[split] = file_listing([folder / f"SUN397{key}" for key in keys], labels, keys, limited)
    return out


def _by_class(root: Path, count: int) -> Listings:
    files = [
        (i, p)
        for i, c in enumerate(_class_folders(root, count))
        for p in files_below(c)
        if p.parent == c and p.suffix == ".jpg"
    ]
    keys = [f"{p.parent.name}_{p.name}" for _, p in files]
    return {"train": file_listing([p for _, p in files], [i for i, _ in files], keys)}


def eurosat(folder: Path, task: str) -> Listings:
    """`2750/<class>/<class>_1.jpg`."""
    return _by_class(folder / "2750", 10)


def resisc45(folder: Path, task: str) -> Listings:
    """`NWPU-RESISC45/<class>/*.jpg`."""
    return _by_class(folder / "NWPU-RESISC45", 45)


def retinopathy(folder: Path, task: str) -> Listings:
    """`trainLabels.csv` over `train/`, `retinopathy_solution.csv` (column Usage) over `test/`.

    Images of public use are the validation split, those of private use the test split.
    """
    out = {}
    for split, file, images, usage in (("train", "trainLabels.csv", "train", None),
                                       ("validation", "retinopathy_solution.csv", "test", "Public"),
                                       ("test", "retinopathy_solution.csv", "test", "Private")):  # fmt: skip
        path = folder / file
        columns = {"image", "level"} | ({"Usage"} if usage else set())
        rows = csv.DictReader(read_text(path).splitlines())
        keys, named, labels = [], [], []
        with faults(f"{path} is damaged"):
            missing = columns - set(rows.fieldnames or ())
            if missing:
                raise DataError(f"{path}:1: no column {', '.join(sorted(missing))}; fetch it again")
            for row in rows:
                location = f"{path}:{rows.line_num}"
                if any(row[column] is None for column in columns):
                    raise DataError(f"{location}: the line is cut off; fetch it again")
                if usage in (None, row.get("Usage")):
                    keys.append(row["image"])
                    named.append((location, f"{row['image']}.jpeg"))
                    labels.append(read_label(row["level"], VTAB_BY_ID[task].num_classes, location))
        out[split] = file_listing(inside(folder / images, named), labels, keys, btgraham)
    return out


class SceneObject(BaseModel, frozen=True):
    """An object of CLEVR: where it is in the image, and how far away."""

    pixel_coords: tuple[FiniteFloat, FiniteFloat, FiniteFloat]


class Scene(BaseModel, frozen=True):
    """A scene of CLEVR."""

    image_filename: str
    objects: list[SceneObject]


class Scenes(BaseModel, frozen=True):
    """A file of CLEVR's scenes."""

    scenes: list[Scene]


def clevr(folder: Path, task: str) -> Listings:
    """`CLEVR_v1.0/images/{train,val}` and `scenes/CLEVR_{train,val}_scenes.json`."""
    root, out = folder / "CLEVR_v1.0", {}
    for split, name in (("train", "train"), ("validation", "val")):
        path = root / "scenes" / f"CLEVR_{name}_scenes.json"
        text, labels, named = read_text(path), [], []
        with faults(f"{path} is damaged"):
            scenes = Scenes.model_validate_json(text).scenes
        for number, scene in enumerate(scenes):
            location = f"{path}: scene {number}"
            with faults(f"{location} is damaged"):
                labels.append(clevr_count(len(scene.objects)) if task == "clevr_count" else
                              clevr_distance(o.pixel_coords[2] for o in scene.objects))  # fmt: skip
                named.append((location, scene.image_filename))
        out[split] = file_listing(inside(root / "images" / name, named), labels, [key for _, key in named])
    return out


def kitti_splits(mapping_lines: list[str], order: list[int]) -> dict[str, list[int]]:
    """Image ids per split: a tenth of the videos for test, a tenth for validation, drawn as tensorflow-datasets does.

    `mapping_lines`: "date video frame" of `train_mapping.txt`; `order`: the numbers of `train_rand.txt`
    (from 1), one per image. NumPy guarantees the stream of the legacy `RandomState`.
    """
    videos: dict[str, list[int]] = defaultdict(list)
    for image, line in enumerate(order):
        videos[mapping_lines[line - 1].split(" ")[1]].append(image)
    count, rng = max(1, len(videos) // 10), np.random.RandomState(123)
    test = set(rng.choice(sorted(videos), count, replace=False))
    validation = set(rng.choice(sorted(set(videos) - test), count, replace=False))
    out: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for video, images in videos.items():
        out["test" if video in test else "validation" if video in validation else "train"] += images
    return out


def _kitti_label(path: Path) -> int:
    depths = []
    for location, line in read_lines(path):
        row = line.split(" ")
        if row[0] in VEHICLES:
            with faults(f"{location}: '{line}' is no labelled object"):
                depths.append(float(row[13]))
    with faults(f"{path} is damaged"):
        return kitti_distance(depths)


def _kitti_lists(mapping: Path, rand: Path) -> tuple[list[str], list[int]]:
    """The lines of `train_mapping.txt` and the numbers of `train_rand.txt`; DataError with the line of a fault."""
    lines, order = read_text(mapping).splitlines(), []
    for number, line in enumerate(lines, 1):
        if len(line.split(" ")) != 3:
            raise DataError(f"{mapping}:{number}: '{line}' is not 'date video frame'; fetch it again")
    for number, entry in enumerate(read_text(rand).split(","), 1):
        with faults(f"{rand}:1: entry {number}, '{entry.strip()}', is no number"):
            order.append(int(entry))
        if not 1 <= order[-1] <= len(lines):
            raise DataError(f"{rand}:1: entry {number}, {order[-1]}, is no line of {mapping}, which has {len(lines)}")
    return lines, order


def kitti(folder: Path, task: str) -> Listings:
    """`training/{image_2,label_2}` and the devkit's `mapping/{train_rand,train_mapping}.txt`."""
    ids = kitti_splits(*_kitti_lists(*(folder / "mapping" / f"train_{name}.txt" for name in ("mapping", "rand"))))
    root, out = folder / "training", {}
    for split, images in ids.items():
        labels = [_kitti_label(root / "label_2" / f"{i:06d}.txt") for i in images]
        keys = [f"{i:06d}.png" for i in images]
        out[split] = file_listing([root / "image_2" / key for key in keys], labels, keys)
    return out
