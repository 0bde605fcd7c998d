"""The few-shot sets and the domain-generalisation set: sizes, where lists and images lie, what a user has to fetch.

Lists come from the NOAH repository (ZhangYuanhan-AI/NOAH, folder data/), images from the data sets' own archives. All
paths are below one folder, which is laid out like NOAH's data/ folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from data.base import TaskInfo

SHOTS: tuple[int, ...] = (1, 2, 4, 8, 16)
LIST_SEEDS: tuple[int, ...] = (0, 1, 2)
REPOSITORY = "github.com/ZhangYuanhan-AI/NOAH"
FEW_SHOT, DOMAIN = "few_shot", "domain_generalization"
IMAGE_SIZE = 224


@dataclass(frozen=True)
class EvalList:
    """A list that is only measured on: its path, the folder its lines are relative to, its size, its archive."""

    title: str
    path: str
    images: str
    count: int
    archive: str = ""


class ShotRow(NamedTuple):
    """One set. `lists` and `images` are folders; training lines are relative to `images`.

    `evals` holds the selection list ("val200"), the test list ("test") and, for domain generalisation, the targets.
    """

    id: str
    title: str
    suite: str
    num_classes: int
    lists: str
    images: str
    archive: str
    evals: dict[str, EvalList]
    shots: tuple[int, ...] = SHOTS

    @property
    def targets(self) -> tuple[str, ...]:
        """The test sets besides the set's own."""
        return tuple(name for name in self.evals if name not in ("val200", "test"))


def _few_shot(
    id: str, title: str, classes: int, folder: str, images: str, val: int, test: int, archive: str
) -> ShotRow:  # noqa: A002
    lists = f"few-shot/{folder}/annotations"
    evals = {"val200": EvalList("selection", f"{lists}/val_meta.list", images, val),
             "test": EvalList("test", f"{lists}/test_meta.list", images, test)}  # fmt: skip
    return ShotRow(id, title, FEW_SHOT, classes, lists, images, archive, evals)


def _target(title: str, folder: str, count: int, archive: str) -> EvalList:
    return EvalList(title, f"domain-generalization/{folder}/annotations/val_meta.list", folder, count, archive)


_IMAGENET = "few-shot/imagenet/annotations"
_ROWS = (
    _few_shot("food101", "Food101", 101, "food101", "food-101/images", 20200, 30300,
              "food-101.tar.gz (5 GB) of the ETH Food-101 page"),
    _few_shot("stanford_cars", "Stanford Cars", 196, "standford-cars", "stanford_cars", 1635, 8041,
              "cars_train.tgz and cars_test.tgz (2 GB) of the Stanford Cars data set"),
    _few_shot("oxford_flowers_fs", "Flowers102", 102, "oxford-flowers102", "oxford_flowers/images", 1633, 2463,
              "102flowers.tgz (0.3 GB) of the Oxford VGG page, its jpg files in images/"),
    _few_shot("fgvc_aircraft", "FGVC Aircraft", 100, "fgvc-aircraft", "fgvc_aircraft/images", 3333, 3333,
              "fgvc-aircraft-2013b.tar.gz (3 GB) of the Oxford VGG page, its data/images in images/"),
    _few_shot("oxford_pets_fs", "Oxford Pets", 37, "oxford-pets", "oxford_pets/images", 736, 3669,
              "images.tar.gz (0.8 GB) of the Oxford-IIIT Pet page"),
    ShotRow(
        "imagenet_16shot", "ImageNet", DOMAIN, 1000, _IMAGENET, "imagenet/train",
        "ILSVRC2012_img_train.tar (138 GB) as imagenet/train/<wnid>/ and ILSVRC2012_img_val.tar (6 GB) as "
        "imagenet/val/ (flat, or by wnid)",
        {
            "val200": EvalList("selection", f"{_IMAGENET}/unofficial_val_list_4_shot16seed0", "imagenet/train", 2959),
            "test": EvalList("ImageNet", f"{_IMAGENET}/val_meta.list", "imagenet/val", 50000),
            "imagenet_v2": _target("V2", "imagenetv2", 10000, "imagenetv2-matched-frequency.tar.gz"),
            "imagenet_sketch": _target("Sketch", "imagenet-sketch", 50889, "ImageNet-Sketch.zip, its folder as images"),
            "imagenet_a": _target("A", "imagenet-adversarial", 7500, "imagenet-a.tar"),
            "imagenet_r": _target("R", "imagenet-rendition", 30000, "imagenet-r.tar"),
        },
        (16,),
    ),
)  # fmt: skip

SHOT_ROWS: dict[str, ShotRow] = {row.id: row for row in _ROWS}

SUBSET_TARGETS = ("imagenet_a", "imagenet_r")
"""Targets with 200 of the 1000 classes, to which `class_subset=dataset` restricts the logits."""


def shot_task(id: str, shots: int = 16) -> TaskInfo:  # noqa: A002
    """The task of a set with `shots` training images per class; its split names are those of VTAB-1K."""
    row = SHOT_ROWS[id]
    sizes = {"train800": shots * row.num_classes, **{name: part.count for name, part in row.evals.items()}}
    return TaskInfo(row.id, row.title, row.suite, row.suite, row.num_classes, sizes, IMAGE_SIZE)
