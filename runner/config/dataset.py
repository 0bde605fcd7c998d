"""From the `dataset` keys to the task and its images: VTAB and mini tasks, few-shot lists, one's own images."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data import (
    AUGMENTS,
    LIST_SEEDS,
    SHOT_ROWS,
    TASKS,
    DataError,
    TaskInfo,
    default_data_root,
    own_images,
    shot_task,
    user_path,
)
from glora.backbones import channel_statistics, settled_normalization
from runner.config.protocol import Protocol
from runner.config.run import DataChoice, Shots
from runner.config.schema import DatasetConf, TrainConf

SHOT_KEYS = ("shots", "list_seed", "augmentation", "class_subset")
OWN_KEYS = ("root", "train", "val", "test")


@dataclass(frozen=True)
class DataSet:
    """A task with its images, what of it names a run, and the name of its directory under output_root."""

    task: TaskInfo
    data: DataChoice
    identity: Mapping[str, Any]
    directory: str


def read_dataset(conf: TrainConf, protocol: Protocol | None) -> tuple[DataSet | None, list[str]]:
    """The data set that the config names, and what is wrong with its keys; None where that leaves no data set."""
    d = conf.dataset
    if d is None:
        return None, [f"name a task: dataset=<id> (one of {', '.join(TASKS)}, folder) or sweep=mini"]
    if d.id in SHOT_ROWS:
        return _shots(conf, d, protocol)
    foreign = [f"dataset.{k}" for k in SHOT_KEYS if getattr(d, k) is not None]
    problems = [f"{', '.join(foreign)} is for few-shot and domain-generalisation sets: {', '.join(SHOT_ROWS)}"]
    problems = problems if foreign else []
    if d.id == "folder":
        return _own(conf, d, problems)
    problems += _own_key_problems(d)
    task = TASKS.get(d.id)
    if task is None:
        near = difflib.get_close_matches(d.id, TASKS, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return None, [f"dataset {d.id!r} is unknown{hint}; available: {', '.join(TASKS)}, folder", *problems]
    return DataSet(task, _data(conf), {"id": d.id}, d.id), problems


def _shots(conf: TrainConf, d: DatasetConf, protocol: Protocol | None) -> tuple[DataSet | None, list[str]]:
    problems = list(_shot_problems(conf, d, protocol))
    if problems or d.shots is None or d.list_seed is None or d.augmentation is None or d.class_subset is None:
        return None, problems  # a key that was left out is among them
    shots = Shots(d.shots, d.list_seed, d.augmentation, d.class_subset)
    kept = {"shots": shots.shots, "list_seed": shots.list_seed, "augmentation": shots.augmentation}
    directory = f"{d.id}-{shots.shots}shot-list{shots.list_seed}"
    return DataSet(shot_task(d.id, shots.shots), _data(conf, shots=shots), {"id": d.id, **kept}, directory), []


def _own(conf: TrainConf, d: DatasetConf, problems: list[str]) -> tuple[DataSet | None, list[str]]:
    if d.root is None:
        needs = "dataset=folder needs dataset.root=<folder of class folders, or of train.txt and test.txt>"
        return None, [*problems, needs]
    try:
        images = own_images(user_path(d.root, "dataset.root"), conf.backbone.image_size, d.train, d.val, d.test)
    except DataError as error:
        return None, [*problems, str(error)]
    return DataSet(images.info, _data(conf, own=images), {"id": images.info.id}, images.info.id), problems


def _own_key_problems(d: DatasetConf) -> list[str]:
    typed = [f"dataset.{k}" for k in OWN_KEYS if getattr(d, k) is not None]
    return [f"{', '.join(typed)} is for dataset=folder only"] if typed else []


def _shot_problems(conf: TrainConf, d: DatasetConf, protocol: Protocol | None) -> Iterator[str]:
    row = SHOT_ROWS[d.id]
    for key, value, allowed in (
        ("dataset.shots", d.shots, row.shots),
        ("dataset.list_seed", d.list_seed, LIST_SEEDS),
        ("dataset.augmentation", d.augmentation, AUGMENTS),
        ("dataset.class_subset", d.class_subset, ("none", "dataset") if row.targets else ("none",)),
        ("source", conf.source, (None,)),
        ("codec", conf.codec, ("raw",)),
        ("resize", conf.resize, ("bicubic",)),
    ):
        if value not in allowed:
            listed = ", ".join("left out" if a is None else str(a) for a in allowed)
            yield f"{key}={value} cannot be used with dataset={d.id}; allowed: {listed}"
    # VTAB-1K's 1000 images and its published code are what such a protocol is about; these lists have neither.
    if protocol is not None and (protocol.needs_val200_in_training or protocol.selects_on_test):
        yield (f"protocol={protocol.name} cannot be used with dataset={d.id}, whose lists train as they are and select "
               "on images of their own; allowed: clean")  # fmt: skip
    yield from _own_key_problems(d)


def data_root_of(value: str | None) -> Path:
    """Where the caches lie: the `data_root` of a config, or the default place. Raises DataError for one unknown."""
    return user_path(value, "data_root") if value else default_data_root()


def _data(conf: TrainConf, **kind: Any) -> DataChoice:
    b = conf.backbone
    normalization = settled_normalization(b.normalization, b.timm_name)
    mean, std = channel_statistics(normalization)
    root = data_root_of(conf.data_root)
    return DataChoice(root, conf.source, conf.codec, conf.resize, b.image_size, normalization, mean, std, **kind)
