"""From a config to the things it names: data on the device, model input, the method, its trained weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data import (
    SHOT_ROWS,
    SUBSET_TARGETS,
    Augmented,
    Split,
    load_own,
    load_pictures,
    load_shots,
    load_split,
    resize_batch,
)
from glora.backbones import build_backbone, channel_statistics
from glora.class_token import compute_class_token_alone
from glora.methods import METHODS, GLoRA, Method
from glora.train import Normalizer
from runner import config as cfg
from runner.config import ConfigError
from runner.folder import read_weights, run_folder
from runner.hardware import processor, versions
from runner.schema import TrainConf
from runner.tracking import Tracker

log = logging.getLogger("glora")


class Preprocess:
    """uint8 images to model input on the device: resized to the backbone's size where they are not, then normalised.

    Only test images, which stay on the CPU, are resized here; all others are when they are loaded (`_on_device`).
    """

    def __init__(self, c: TrainConf) -> None:
        self.size, self.resize, self.device = c.backbone.image_size, c.resize, device_of(c)
        self.normalize = Normalizer(*channel_statistics(c.backbone.normalization))

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 to (B, 3, size, size) float32."""
        if images.shape[-1] != self.size:
            images = resize_batch(images, self.size, self.resize)
        return self.normalize(images.to(self.device))


def device_of(c: TrainConf) -> torch.device:
    """The device to run on; "auto" takes CUDA where there is one."""
    if c.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(c.device)


def split(c: TrainConf, name: str) -> Split:
    """One split of the task on the device. The test split has its own door, `test_split`."""
    if name == "test":
        raise AssertionError("the test split is loaded by test_split alone")
    return _on_device(c, name)


def test_split(c: TrainConf) -> Split:
    """The test split: called by `measure`, and under `reference_2023_06` by training and search.

    Its images stay on the CPU, memory-mapped where they were prepared, and go to the device batch by batch.
    """
    s = _load(c, "test")
    return replace(s, labels=s.labels.to(device_of(c)))


def _load(c: TrainConf, name: str) -> Split:
    assert c.dataset is not None
    if cfg.is_shots(c):
        return load_shots(c.dataset.id, name, *_lists(c))
    if c.dataset.id == "folder":
        return load_own(cfg.own(c), name, cfg.data_root(c), c.codec, c.resize)
    words = {"source": c.source, "codec": c.codec, "resize": c.resize}
    return load_split(cfg.task(c).id, name, data_root=cfg.data_root(c), **words)


def _lists(c: TrainConf) -> tuple[Path, int, int, int]:
    d = c.dataset
    assert d is not None and d.shots is not None and d.list_seed is not None
    return cfg.data_root(c), d.shots, d.list_seed, c.backbone.image_size


@dataclass(frozen=True)
class TrainingSet:
    """What trains: uint8 images on the device, or ones that differ in every epoch; labels, and the content's hash."""

    images: Tensor | Augmented
    labels: Tensor
    content_hash: str


def training_set(c: TrainConf, name: str) -> TrainingSet:
    """The images of a training split, augmented for few-shot and domain-generalisation sets unless told otherwise."""
    d = c.dataset
    if d is None or not cfg.is_shots(c) or d.augmentation == "none":
        s = split(c, name)
        return TrainingSet(s.images, s.labels, s.content_hash)
    pictures, (mean, std) = load_pictures(d.id, *_lists(c)), channel_statistics(c.backbone.normalization)
    images = Augmented(pictures, c.backbone.image_size, mean, std, c.seed)
    return TrainingSet(images, pictures.labels.to(device_of(c)), pictures.content_hash)


def target_splits(c: TrainConf) -> Iterator[tuple[str, Split, list[int] | None]]:
    """The test sets of domain generalisation, for `measure` alone: name, images, and the classes that count.

    The classes are None for all 1000, else those of the target's list (A and R under `dataset.class_subset=dataset`).
    """
    d = c.dataset
    assert d is not None
    for name in SHOT_ROWS[d.id].targets:
        s = _load(c, name)
        s = replace(s, labels=s.labels.to(device_of(c)))
        subset = d.class_subset == "dataset" and name in SUBSET_TARGETS
        yield name, s, s.labels.unique().tolist() if subset else None


def _on_device(c: TrainConf, name: str) -> Split:
    s, device, size = _load(c, name), device_of(c), c.backbone.image_size
    images = s.images if s.images.shape[-1] == size else resize_batch(s.images, size, c.resize)
    return replace(s, images=images.to(device), labels=s.labels.to(device))


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


def build(c: TrainConf) -> Method:
    """Backbone, head and method, on the device."""
    model = build_backbone(cfg.backbone(c), cfg.task(c).num_classes, c.seed)
    _check_image_size(c, model)
    torch.manual_seed(c.seed)
    kind = METHODS[c.method.name]
    try:
        options = kind.for_task(c.method.options, cfg.task(c).id)
        method = GLoRA(model, c.ranks, c.tensors, c.convs) if kind is GLoRA else kind(model, **options)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if c.runtime.last_block == "auto":
        compute_class_token_alone(model)
    model.to(device_of(c))
    return method


@torch.no_grad()
def _check_image_size(c: TrainConf, model: nn.Module) -> None:
    """Raise ConfigError where the model does not take images of the size that the data has."""
    size, training = c.backbone.image_size, model.training
    try:
        model.eval()(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        known = getattr(getattr(model, "patch_embed", None), "img_size", None)
        hint = f"write backbone.image_size={known[0]}" if known else "write another backbone.image_size"
        said = str(error).splitlines()[0]
        problem = f"backbone.image_size={size} does not fit {c.backbone.timm_name} ({said})"
        raise ConfigError(f"{problem}; {hint}") from error
    model.train(training)


def load_trained(c: TrainConf, folder: Path, final: bool) -> Method:
    """The method with its trained weights; `final` takes those of the 1000 images under `clean_1000`."""
    file = folder / ("weights_1000.safetensors" if final and c.protocol.name == "clean_1000" else "weights.safetensors")
    if not file.exists():
        raise ConfigError(f"{folder} holds no finished training; run train.py with the same words first")
    weights = read_weights(file)  # what is damaged is said before a model is built
    method = build(c)
    method.load_state_dict(weights)
    method.model.eval()
    return method


def open_tracker(c: TrainConf, folder: Path, job_type: str) -> Tracker:
    """The tracker of one stage; the stages of one run share a W&B group."""
    run = run_folder(c)
    settings = {**cfg.identity(c), "search": asdict(c.search)}
    return Tracker(
        folder,
        mode=c.logger.wandb,
        project=c.logger.project,
        name=f"{run.parent.name}-{run.name}-{job_type}",
        group=f"{run.parent.name}-{run.name}",
        job_type=job_type,
        config=settings,
        echo=log.info,
    )


def environment(c: TrainConf) -> dict[str, Any]:
    """Hardware and versions, for the record: what a figure was made with."""
    device = device_of(c)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    found = versions("torch", "torchvision", "timm", "numpy", "hydra-core")
    return {"device": name, "threads": torch.get_num_threads(), **found}
