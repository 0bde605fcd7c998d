"""The typed schema of the config: every key a user can set, its type, default and bounds.

`runner.config.resolve` gives it meaning; nothing behind it sees these classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from data import ALIASES, CODECS, RESIZES
from glora.sampling import SAMPLERS
from glora.schedule import SCHEDULES
from glora.train import OPTIMIZERS, UNUSED_GRADS
from runner.config.compute import COMPILES, GRAPHS, LAST_BLOCKS, PRECISIONS
from runner.config.fields import choice, number

EXPORTS = ("merged", "peft")
MOST_EPOCHS = 1_000_000
HPARAMS = ("global", "val_grid", "published")
WANDB_MODES = ("auto", "online", "offline", "disabled")


@dataclass
class DatasetConf:
    id: str = MISSING
    lr: float = number(5e-4, above=0)
    root: str | None = None
    train: int | None = None
    val: int | None = None
    test: int | None = None
    shots: int | None = None
    list_seed: int | None = None
    augmentation: str | None = None
    class_subset: str | None = None

    def __post_init__(self) -> None:
        self.id = ALIASES.get(self.id, self.id)


@dataclass
class BackboneConf:
    """`family` names the published backbone that this one is: whose rows, limits and counts are its own."""

    name: str = MISSING
    timm_name: str = MISSING
    family: str | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    pretrained: bool = True
    weights: str | None = None
    image_size: int = number(224, low=1, high=2048)  # twice the largest of timm's models; a data set takes 12 GB there
    normalization: Any = "imagenet"  # a name, or {mean: [r, g, b], std: [r, g, b]}
    drop_path_rate: float | None = number(None, low=0, below=1)


@dataclass
class RecipeConf:
    """A method's own recipe; what is left open is GLoRA's."""

    lr: float | None = number(None, above=0)
    epochs: int = number(500, low=1, high=MOST_EPOCHS)
    warmup_epochs: int = number(10, low=0, high=MOST_EPOCHS)
    schedule: str = choice("glora", tuple(SCHEDULES))
    warmup_lr: float = number(1e-6, low=0)
    min_lr: float = number(1e-5, low=0)
    weight_decay: float = number(1e-4, low=0, high=1000)
    decay_1d: bool = True
    drop_path: float = number(0.1, low=0, below=1)
    optimizer: str = choice("adamw", OPTIMIZERS)
    sampling: str = choice("uniform", tuple(SAMPLERS))
    draws: int = number(1, low=1, high=1000)
    distill: bool = False
    ema: float | None = number(None, above=0, below=1)


@dataclass
class TrainerRecipeConf:
    """What a method takes under trainers that list this entry's key in `recipes`; None: the method's own recipe."""

    lr: float | None = number(None, above=0)
    epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    retrain_lr: float | None = number(None, above=0)
    retrain_epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    search: dict[str, Any] = field(default_factory=dict)


@dataclass
class MethodConf:
    """`search` is what its search takes in place of what the `search` group says, unless it is typed."""

    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
    recipe: RecipeConf = field(default_factory=RecipeConf)
    retrain: RecipeConf = field(default_factory=RecipeConf)
    trainers: dict[str, TrainerRecipeConf] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    published_with: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)


@dataclass
class TrainerConf:
    """`recipes` lists the entries of a method's `trainers` that count here, a later one before an earlier one.

    `default_epochs` is for methods without one.
    """

    name: str = MISSING
    recipes: list[str] = field(default_factory=list)
    epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    default_epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    warmup_epochs: int | None = number(None, low=0, high=MOST_EPOCHS)
    schedule: str | None = choice(None, tuple(SCHEDULES))
    batch_size: int = number(64, low=1)
    eval_every: int = number(25, low=1)
    max_steps: int | None = number(None, low=1)
    lr_factors: list[float] = number(list, above=0, high=1e6)


@dataclass
class OptimizerConf:
    lr: float | None = number(None, above=0)
    weight_decay: float | None = number(None, low=0, high=1000)
    unused_grad: str = choice("zero", UNUSED_GRADS)
    name: str | None = choice(None, OPTIMIZERS)
    decay_1d: bool | None = None
    warmup_lr: float | None = number(None, low=0)
    min_lr: float | None = number(None, low=0)


@dataclass
class SupernetConf:
    """How the subnets of a supernet train; None: as the method's recipe says."""

    sampling: str | None = choice(None, tuple(SAMPLERS))
    draws: int | None = number(None, low=1, high=1000)
    distill: bool | None = None
    ema: float | None = number(None, above=0, below=1)


@dataclass
class RuntimeConf:
    graph: str = choice("auto", GRAPHS)
    compile: str = choice("auto", COMPILES)
    last_block: str = choice("auto", LAST_BLOCKS)


@dataclass
class LoggerConf:
    wandb: str = choice("auto", WANDB_MODES)
    project: str = "glora-vtab"


@dataclass
class TrainConf:
    """The whole config. `ranks`, `tensors` and `convs` are short for `method.options.ranks` and so on."""

    dataset: DatasetConf | None = None
    backbone: BackboneConf = field(default_factory=BackboneConf)
    method: MethodConf = field(default_factory=MethodConf)
    trainer: TrainerConf = field(default_factory=TrainerConf)
    optimizer: OptimizerConf = field(default_factory=OptimizerConf)
    supernet: SupernetConf = field(default_factory=SupernetConf)
    protocol: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    logger: LoggerConf = field(default_factory=LoggerConf)
    runtime: RuntimeConf = field(default_factory=RuntimeConf)
    ranks: list[int] | None = None
    tensors: str | None = None
    convs: bool | None = None
    hparams: str = choice("global", HPARAMS)
    seed: int = number(0, low=0, high=2**32 - 1)  # what every generator takes, the next ones of an epoch too
    source: str | None = None
    codec: str = choice("raw", CODECS)
    resize: str = choice("bicubic", RESIZES)
    export: str = choice("merged", EXPORTS)
    data_root: str | None = None
    output_root: str = "outputs"
    details: bool = False
    device: str = "auto"
    precision: str = choice("fp32", tuple(PRECISIONS))
    plugins: list[str] = field(default_factory=list)


def register(schema: type[Any] = TrainConf, config: str = "train") -> None:
    """Make known to Hydra what the YAMLs refer to.

    Args:
        schema: the dataclass that `configs/<config>.yaml` starts from, under the name base_<config>.
        config: the name of that YAML.
    """
    OmegaConf.register_new_resolver("expanduser", os.path.expanduser, replace=True)
    store = ConfigStore.instance()
    store.store(name=f"base_{config}", node=schema)
    for alias, task_id in ALIASES.items():
        # An alias is a choice of the group `dataset` that holds nothing but the choice it stands for.
        store.store(group="dataset", name=alias, node={"defaults": [task_id]})
