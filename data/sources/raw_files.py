"""Raw data sets of image files: dtd, flowers102, pets, sun397, eurosat, resisc45, retinopathy, clevr, kitti."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from data.base import DataError
from data.labels import VEHICLES, clevr_count, clevr_distance, kitti_distance
from data.sources.base import Listing, file_listing, need, optional
from data.sources.processing import btgraham, limited

Listings = dict[str, Listing]


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in need(path).read_text().splitlines() if line.strip()]


def _class_folders(home: Path, count: int) -> list[Path]:
    folders = sorted(p for p in need(home).iterdir() if p.is_dir())
    if len(folders) != count:
        raise DataError(f"{home} has {len(folders)} class folders, not {count}; unpack it again")
    return folders


def dtd(folder: Path, task: str) -> Listings:
    """``dtd/labels/{train1,val1,test1}.txt`` over ``dtd/images``: fold 1 of the official ten."""
    home = folder / "dtd"
    names = {p.name: i for i, p in enumerate(_class_folders(home / "images", 47))}
    out = {}
    for split, file in (("train", "train1"), ("validation", "val1"), ("test", "test1")):
        keys = _lines(home / "labels" / f"{file}.txt")
        labels = [names[key.partition("/")[0]] for key in keys]
        out[split] = file_listing([home / "images" / key for key in keys], labels, keys)
    return out


def flowers102(folder: Path, task: str) -> Listings:
    """``jpg/image_00001.jpg``, ``imagelabels.mat`` (from 1) and ``setid.mat``."""
    loadmat = optional("scipy.io", "scipy").loadmat
    labels = loadmat(need(folder / "imagelabels.mat"))["labels"].reshape(-1)
    sets = loadmat(need(folder / "setid.mat"))
    out = {}
    for split, name in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        ids = sets[name].reshape(-1)
        keys = [f"image_{i:05d}.jpg" for i in ids]
        out[split] = file_listing([folder / "jpg" / key for key in keys], [int(labels[i - 1]) - 1 for i in ids], keys)
    return out


def pets(folder: Path, task: str) -> Listings:
    """``annotations/{trainval,test}.txt`` (name, class from 1, ...) over ``images/<name>.jpg``."""
    out = {}
    for split, file in (("train", "trainval"), ("test", "test")):
        rows = [line.split() for line in _lines(folder / "annotations" / f"{file}.txt") if line[0] != "#"]
        keys = [f"{row[0]}.jpg" for row in rows]
        out[split] = file_listing([folder / "images" / key for key in keys], [int(r[1]) - 1 for r in rows], keys)
    return out


def sun397(folder: Path, task: str) -> Listings:
    """``SUN397/a/abbey/sun_*.jpg`` by the split lists that tensorflow-datasets ships (read as text).

    Images above 120,000 pixels are shrunk first, as tensorflow-datasets does.
    """
    package = find_spec("tensorflow_datasets")
    if package is None or package.origin is None:
        raise DataError("the split lists of sun397 come with tensorflow-datasets: pip install tensorflow-datasets")
    lists = Path(package.origin).parent / "image_classification"
    names = {name: i for i, name in enumerate(_lines(lists / "sun397_labels.txt"))}
    out = {}
    for split, file in (("train", "tr"), ("validation", "va"), ("test", "te")):
        keys = _lines(lists / f"sun397_tfds_{file}.txt")
        labels = [names[key.rpartition("/")[0]] for key in keys]
        out[split] = file_listing([folder / f"SUN397{key}" for key in keys], labels, keys, limited)
    return out


def _by_class(home: Path, count: int) -> Listings:
    files = [(i, p) for i, c in enumerate(_class_folders(home, count)) for p in sorted(c.glob("*.jpg"))]
    keys = [f"{p.parent.name}_{p.name}" for _, p in files]
    return {"train": file_listing([p for _, p in files], [i for i, _ in files], keys)}


def eurosat(folder: Path, task: str) -> Listings:
    """``2750/<class>/<class>_1.jpg``."""
    return _by_class(folder / "2750", 10)


def resisc45(folder: Path, task: str) -> Listings:
    """``NWPU-RESISC45/<class>/*.jpg``."""
    return _by_class(folder / "NWPU-RESISC45", 45)


def retinopathy(folder: Path, task: str) -> Listings:
    """``trainLabels.csv`` over ``train/``, ``retinopathy_solution.csv`` (column Usage) over ``test/``.

    Images of public use are the validation split, those of private use the test split.
    """
    out = {}
    for split, file, home, usage in (("train", "trainLabels.csv", "train", None),
                                     ("validation", "retinopathy_solution.csv", "test", "Public"),
                                     ("test", "retinopathy_solution.csv", "test", "Private")):  # fmt: skip
        path = need(folder / file)
        try:
            rows = list(csv.DictReader(path.read_text().splitlines()))
            rows = [row for row in rows if usage is None or row["Usage"] == usage]
            keys, labels = [row["image"] for row in rows], [int(row["level"]) for row in rows]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}); fetch it again") from error
        out[split] = file_listing([folder / home / f"{key}.jpeg" for key in keys], labels, keys, btgraham)
    return out


def clevr(folder: Path, task: str) -> Listings:
    """``CLEVR_v1.0/images/{train,val}`` and ``scenes/CLEVR_{train,val}_scenes.json``."""
    home, out = folder / "CLEVR_v1.0", {}
    for split, name in (("train", "train"), ("validation", "val")):
        path = need(home / "scenes" / f"CLEVR_{name}_scenes.json")
        try:
            scenes: list[dict[str, Any]] = json.loads(path.read_text())["scenes"]
        except (ValueError, KeyError) as error:
            raise DataError(f"{path} is damaged ({error}); unpack it again") from error
        if task == "clevr_count":
            labels = [clevr_count(len(s["objects"])) for s in scenes]
        else:
            labels = [clevr_distance(o["pixel_coords"][2] for o in s["objects"]) for s in scenes]
        keys = [s["image_filename"] for s in scenes]
        out[split] = file_listing([home / "images" / name / key for key in keys], labels, keys)
    return out


def kitti_splits(mapping_lines: list[str], order: list[int]) -> dict[str, list[int]]:
    """Image ids per split: a tenth of the videos for test, a tenth for validation, drawn as tensorflow-datasets does.

    ``mapping_lines``: "date video frame" of ``train_mapping.txt``; ``order``: the numbers of ``train_rand.txt``
    (from 1), one per image. NumPy guarantees the stream of the legacy ``RandomState``.
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


def _kitti_label(lines: Iterable[str]) -> int:
    rows = [line.split(" ") for line in lines]
    return kitti_distance(float(row[13]) for row in rows if row[0] in VEHICLES)


def kitti(folder: Path, task: str) -> Listings:
    """``training/{image_2,label_2}`` and the devkit's ``mapping/{train_rand,train_mapping}.txt``."""
    order = [int(x) for x in need(folder / "mapping" / "train_rand.txt").read_text().split(",")]
    ids = kitti_splits(need(folder / "mapping" / "train_mapping.txt").read_text().splitlines(), order)
    home, out = folder / "training", {}
    for split, images in ids.items():
        labels = [_kitti_label(_lines(home / "label_2" / f"{i:06d}.txt")) for i in images]
        keys = [f"{i:06d}.png" for i in images]
        out[split] = file_listing([home / "image_2" / key for key in keys], labels, keys)
    return out
