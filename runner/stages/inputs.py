"""The images of a run: its splits on the device, what the model sees of them, and the one door to the test split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from data import (
    SHOT_ROWS,
    SUBSET_TARGETS,
    Augmented,
    Split,
    list_info,
    load_images,
    load_own,
    load_shots,
    load_split,
    resize_batch,
)
from glora.train import Normalizer
from runner.config.run import Run


class Preprocess:
    """uint8 images to model input on the device: resized to the backbone's size where they are not, then normalised.

    Only test images, which stay on the CPU, are resized here; all others are when they are loaded (`_on_device`).
    """

    def __init__(self, run: Run) -> None:
        self.size, self.resize, self.device = run.data.image_size, run.data.resize, run.compute.device
        self.normalize = Normalizer(run.data.mean, run.data.std)

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 to (B, 3, size, size) float32."""
        if images.shape[-1] != self.size:
            images = resize_batch(images, self.size, self.resize)
        return self.normalize(images.to(self.device))


def split(run: Run, name: str) -> Split:
    """One split of the task on the device. The test split has its own door, `test_split`."""
    if name == "test":
        raise ValueError("the test split is loaded by test_split alone")
    s, data, device = _load(run, name), run.data, run.compute.device
    images = s.images if s.images.shape[-1] == data.image_size else resize_batch(s.images, data.image_size, data.resize)
    return replace(s, images=images.to(device), labels=s.labels.to(device))


def test_split(run: Run) -> Split:
    """The test split: for `evaluate`, for `features` of what is evaluated, and for `selection_split` under a protocol
    that selects on test.

    Its images stay on the CPU, memory-mapped where they were prepared, and go to the device batch by batch.
    """
    s = _load(run, "test")
    return replace(s, labels=s.labels.to(run.compute.device))


def selection_split(run: Run) -> Split:
    """What the protocol selects on: val200, or the test images under a protocol that says so."""
    return test_split(run) if run.protocol.selects_on_test else split(run, run.protocol.selection)


def require_data(run: Run) -> None:
    """Raise DataError saying how to obtain it where the data of the run is not prepared on this machine."""
    d = run.data
    if d.shots is not None:
        list_info(run.task.id, d.root, d.shots.shots, d.shots.list_seed, d.image_size)
    elif run.task.suite == "vtab" and d.own is None:
        for name in (run.protocol.training, "test"):  # memory-mapped: nothing is read
            _load(run, name)


def _load(run: Run, name: str) -> Split:
    d = run.data
    if d.shots is not None:
        return load_shots(run.task.id, name, d.root, d.shots.shots, d.shots.list_seed, d.image_size)
    if d.own is not None:
        return load_own(d.own, name, d.root, d.codec, d.resize)
    return load_split(run.task.id, name, data_root=d.root, source=d.source, codec=d.codec, resize=d.resize)


@dataclass(frozen=True)
class TrainingSet:
    """What trains: uint8 images on the device, or ones that differ in every epoch; labels, and the content's hash."""

    images: Tensor | Augmented
    labels: Tensor
    content_hash: str


def training_set(run: Run, name: str) -> TrainingSet:
    """The images of a training split, augmented for few-shot and domain-generalisation sets unless told otherwise."""
    d = run.data
    if d.shots is None or d.shots.augmentation == "none":
        s = split(run, name)
        return TrainingSet(s.images, s.labels, s.content_hash)
    loaded = load_images(run.task.id, d.root, d.shots.shots, d.shots.list_seed, d.image_size)
    images = Augmented(loaded, d.image_size, d.mean, d.std, run.seed)
    return TrainingSet(images, loaded.labels.to(run.compute.device), loaded.content_hash)


def target_splits(run: Run) -> Iterator[tuple[str, Split, list[int] | None]]:
    """The test sets of domain generalisation, for `evaluate` alone: name, images, and the classes that count.

    The classes are None for all 1000, else those of the target's list (A and R under `dataset.class_subset=dataset`).
    """
    if run.data.shots is None:
        return
    for name in SHOT_ROWS[run.task.id].targets:
        s = _load(run, name)
        s = replace(s, labels=s.labels.to(run.compute.device))
        subset = run.data.shots.class_subset == "dataset" and name in SUBSET_TARGETS
        yield name, s, s.labels.unique().tolist() if subset else None


def balanced_cut(s: Split, limit: int) -> Split:
    """At most `limit` of the images, the same ones always, their classes as even as the split allows."""
    if len(s.labels) <= limit:
        return s
    order = torch.randperm(len(s.labels), generator=torch.Generator().manual_seed(0)).to(s.labels.device)
    rank = torch.empty_like(order)
    for k in s.labels.unique():
        members = order[s.labels[order] == k]
        rank[members] = torch.arange(len(members), device=order.device)
    chosen = order[rank[order].argsort(stable=True)][:limit].sort().values
    return replace(s, images=s.images[chosen.to(s.images.device)], labels=s.labels[chosen])
