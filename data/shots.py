"""Few-shot and domain-generalisation sets: from the user's lists and images to the cache, and back.

<data_root>/few_shot/<set>/train-k<shots>-s<list seed>.safetensors   training images at native size
                           <val200|test|target>-<size>.safetensors   evaluation images through `eval_image`
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from pydantic import NonNegativeInt
from torch import Tensor

from data.augment import describe_crop, eval_image
from data.base import DataError, Split, hash_content
from data.cache import Info, read_info, read_info_as, read_split, sound, write_split
from data.decode import to_rgb
from data.native import NativeImages, read_images, write_images
from data.shot_table import LIST_SEEDS, REPOSITORY, SHOT_ROWS, ShotRow
from data.sources.lists import Rows, digest, file_name, read_eval, read_train, train_list_path
from data.sources.reading import read_bytes

SOURCE_FOLDER = "noah"
"""Where lists and images lie under the data root unless said otherwise."""

Progress = Callable[[str, int, int], None]


def train_path(id: str, data_root: Path, shots: int, seed: int) -> Path:  # noqa: A002
    """The cache file of a K-shot list."""
    return data_root / "few_shot" / id / f"train-k{shots}-s{seed}.safetensors"


def eval_path(id: str, data_root: Path, split: str, size: int) -> Path:  # noqa: A002
    """The cache file of an evaluation split at `size` pixels."""
    return data_root / "few_shot" / id / f"{split}-{size}.safetensors"


def build_shots(
    row: ShotRow,
    data_root: Path,
    root: Path | None = None,
    shots: Sequence[int] | None = None,
    seeds: Sequence[int] = LIST_SEEDS,
    size: int = 224,
    progress: Progress = lambda name, done, total: None,
) -> bool:
    """Make what is missing or damaged of a set: its K-shot lists and its evaluation images; False if nothing was.

    `root` is laid out like NOAH's data/ folder. All lists are read and checked before anything is decoded.

    Raises:
        DataError: if a list or an image is missing or damaged, or the cache cannot be written.
    """
    root = root or data_root / SOURCE_FOLDER
    evals = [name for name in row.evals if not sound(eval_path(row.id, data_root, name, size))]
    trains = [(k, s) for k in shots or row.shots for s in seeds
              if not sound(train_path(row.id, data_root, k, s), read_images)]  # fmt: skip
    if not evals and not trains:
        return False
    read = {name: read_eval(row, root, name) for name in evals}
    lists = {pair: read_train(row, root, *pair) for pair in trains}
    shared: dict[str, Any] = {"task": row.id, "source": "noah lists", "codec": "raw", "pillow": PIL.__version__}
    for (k, s), found in lists.items():
        info = {**shared, "resize": "native", "split": "train800", "shots": k, "list_seed": s, "lists": found.digest,
                "doubled_lines": found.doubled, "overlap": list(found.overlap)}  # fmt: skip
        name = f"train, {k} shots, seed {s}"
        write_images(train_path(row.id, data_root, k, s), found.rows, info, partial(progress, name))
    for name, rows in read.items():

        def get(i: int, rows: Rows = rows) -> tuple[np.ndarray, int]:
            file, label = rows[i]
            return eval_image(to_rgb(read_bytes(file), str(file)), size), label

        info = {**shared, "resize": describe_crop(size), "split": name, "lists": digest([rows], root)}
        write_split(eval_path(row.id, data_root, name, size), len(rows), size, get, info, row.num_classes,
                    partial(progress, name), partial(file_name, rows))  # fmt: skip
    return True


def _remedy(id: str, data_root: Path, shots: int, seed: int, size: int) -> str:  # noqa: A002
    overrides = f"dataset={id} dataset.shots={shots} dataset.list_seed={seed} backbone.image_size={size}"
    return f"type: python prepare.py {overrides} data_root={data_root}"


class ListInfo(Info, frozen=True):
    """What is recorded of a prepared K-shot list: its hash, and the indices of the images of val200 that it has too."""

    lists: str
    doubled_lines: NonNegativeInt
    overlap: list[NonNegativeInt]


def list_info(id: str, data_root: Path, shots: int, seed: int, size: int = 224) -> ListInfo:  # noqa: A002
    """What is recorded of a prepared K-shot list. Raises DataError."""
    path = train_path(id, data_root, shots, seed)
    info = read_info_as(path, ListInfo)
    if info is None:
        raise DataError(f"{path} is not prepared; {_remedy(id, data_root, shots, seed, size)}")
    return info


def load_images(id: str, data_root: Path, shots: int, seed: int, size: int = 224) -> NativeImages:  # noqa: A002
    """The training images of a K-shot list at native size. Raises DataError saying how to obtain them."""
    return read_images(train_path(id, data_root, shots, seed), _remedy(id, data_root, shots, seed, size))


def load_shots(id: str, split: str, data_root: Path, shots: int, seed: int, size: int = 224) -> Split:  # noqa: A002
    """A split through the evaluation transform: "train800", "val200", "test" or a target, memory-mapped but train800.

    Images that train are left out of val200.

    Raises:
        DataError: saying how to obtain what is missing.
    """
    remedy, row = _remedy(id, data_root, shots, seed, size), SHOT_ROWS[id]
    info = list_info(id, data_root, shots, seed, size)
    if split == "train800":
        native = load_images(id, data_root, shots, seed, size)
        images = torch.from_numpy(np.stack([eval_image(native.image(i), size) for i in range(len(native))]))
        return Split(images, native.labels, native.content_hash, info.source, info.codec, describe_crop(size))
    path = eval_path(id, data_root, split, size)
    found = read_split(path, remedy)
    if len(found.labels) != row.evals[split].count:
        raise DataError(f"{path} has {len(found.labels)} images, not {row.evals[split].count}; {remedy}")
    if split != "val200" or not info.overlap:
        return found
    if max(info.overlap) >= len(found.labels):
        beside = train_path(id, data_root, shots, seed).with_suffix(".json")
        raise DataError(f"{beside} has overlap={max(info.overlap)}, and val200 {len(found.labels)} images; delete it "
                        f"and {remedy}")  # fmt: skip
    keep: Tensor = torch.ones(len(found.labels), dtype=torch.bool)
    keep[info.overlap] = False
    images, labels = found.images[keep], found.labels[keep]
    return Split(images, labels, hash_content(images, labels), found.source, found.codec, found.resize)


def shots_state(row: ShotRow, data_root: Path, size: int = 224) -> tuple[int, int]:
    """How many of a set's cache files are there, and how many there are in all. Looks at JSON only."""
    paths = [eval_path(row.id, data_root, name, size) for name in row.evals]
    paths += [train_path(row.id, data_root, k, s) for k in row.shots for s in LIST_SEEDS]
    return sum(read_info(path) is not None for path in paths), len(paths)


def shots_instructions(row: ShotRow, root: Path) -> Iterator[str]:
    """What a user has to put where so that a set can be prepared, in full lines."""
    folders = dict.fromkeys([row.lists, *(part.path.rpartition("/")[0] for part in row.evals.values())])
    yield f"  lists    from {REPOSITORY}, its folder data/:"
    for folder in folders:
        yield f"             data/{folder}/ as {root / folder}/"
    yield f"             (training list, for example: {root / train_list_path(row, row.shots[-1], 0)})"
    yield f"  images   {row.archive}, so that the lines of the lists are below {root / row.images}/"
    for part in row.evals.values():
        if part.archive:
            yield f"           {part.archive}, so that its lines are below {root / part.images}/"
