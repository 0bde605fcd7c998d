"""The typed schema of the config: every key a user can set, its type and default. `runner.config` gives it meaning."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf


@dataclass
class DatasetConf:
    id: str = MISSING
    lr: float = 5e-4
    root: str | None = None
    train: int | None = None
    val: int | None = None
    test: int | None = None
    shots: int | None = None
    list_seed: int | None = None
    augmentation: str | None = None
    class_subset: str | None = None


@dataclass
class BackboneConf:
    name: str = MISSING
    timm_name: str = MISSING
    kwargs: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    weights: str | None = None
    image_size: int = 224
    normalization: Any = "imagenet"  # a name, or {mean: [r, g, b], std: [r, g, b]}
    drop_path_rate: float | None = None


@dataclass
class RecipeConf:
    """A method's own recipe; what is left open is GLoRA's."""

    lr: float | None = None
    epochs: int = 500
    warmup_epochs: int = 10
    schedule: str = "glora"
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    weight_decay: float = 1e-4
    decay_1d: bool = True
    drop_path: float = 0.1
    optimizer: str = "adamw"


@dataclass
class MethodConf:
    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
    recipe: RecipeConf = field(default_factory=RecipeConf)
    retrain: RecipeConf = field(default_factory=RecipeConf)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    published_with: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class TrainerConf:
    name: str = MISSING
    epochs: int | None = None
    warmup_epochs: int | None = None
    schedule: str | None = None
    batch_size: int = 64
    eval_every: int = 25
    max_steps: int | None = None
    lr: dict[str, float] = field(default_factory=dict)
    epochs_of: dict[str, int] = field(default_factory=dict)
    lr_factors: list[float] = field(default_factory=list)


@dataclass
class OptimizerConf:
    lr: float | None = None
    weight_decay: float | None = None
    unused_grad: str = "zero"
    name: str | None = None
    decay_1d: bool | None = None
    warmup_lr: float | None = None
    min_lr: float | None = None


@dataclass
class ProtocolConf:
    name: str = "clean"


@dataclass
class SearchConf:
    name: str = "evolution"
    generations: int = 20
    population: int = 50
    parents: int = 10
    mutants: int = 25
    crossovers: int = 25
    mutation_probability: float = 0.2
    min_params: int = 0
    max_params: int | None = None
    val_limit: int = 1000
    seed: int = 1
    retrain_epochs: int | None = None
    retrain_lr: float | None = None


@dataclass
class RuntimeConf:
    graph: str = "auto"
    compile: str = "auto"
    last_block: str = "auto"


@dataclass
class LoggerConf:
    wandb: str = "auto"
    project: str = "glora-vtab"


@dataclass
class TrainConf:
    dataset: DatasetConf | None = None
    backbone: BackboneConf = field(default_factory=BackboneConf)
    method: MethodConf = field(default_factory=MethodConf)
    trainer: TrainerConf = field(default_factory=TrainerConf)
    optimizer: OptimizerConf = field(default_factory=OptimizerConf)
    protocol: ProtocolConf = field(default_factory=ProtocolConf)
    search: SearchConf = field(default_factory=SearchConf)
    logger: LoggerConf = field(default_factory=LoggerConf)
    runtime: RuntimeConf = field(default_factory=RuntimeConf)
    ranks: list[int] = field(default_factory=lambda: [8, 4])
    tensors: str = "ABCDE"
    convs: bool = False
    hparams: str = "global"
    seed: int = 0
    source: str | None = None
    codec: str = "raw"
    resize: str = "bicubic"
    export: str = "merged"
    data_root: str | None = None
    output_root: str = "outputs"
    device: str = "auto"
    precision: str = "fp32"


def register() -> None:
    """Make the schema known to Hydra under the name that `configs/train.yaml` starts from, and what "~" stands for."""
    OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)
    ConfigStore.instance().store(name="base_train", node=TrainConf)
