"""The part of the schema that is about methods: their recipes, grids and published values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from glora.recipe import OPTIMIZERS
from glora.sampling import SAMPLERS
from glora.schedule import SCHEDULES
from runner.config.fields import choice, number

MOST_EPOCHS = 1_000_000


@dataclass
class RecipeConf:
    """A method's own recipe; what is left open is GLoRA's.

    Attributes:
        lr: the peak learning rate; null: the task's.
        epochs: passes over the training images.
        warmup_epochs: of a linear warm-up.
        schedule: the curve of the rate (docs/methods.md).
        warmup_lr: where the warm-up starts.
        min_lr: where the cosine ends.
        weight_decay: of AdamW (decoupled), or of SGD.
        decay_1d: whether biases and other 1-D tensors decay too.
        drop_path: of stochastic depth.
        optimizer: the optimiser.
        sampling: which subnets a step of a supernet trains.
        draws: random subnets of a step.
        distill: the random ones learn from the largest.
        ema: decay of a moving average of the weights; null: none.
    """

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
    sampling: str = choice("uniform", SAMPLERS)
    draws: int = number(1, low=1, high=1000)
    distill: bool = False
    ema: float | None = number(None, above=0, below=1)


@dataclass
class TrainerRecipeConf:
    """What a method takes under trainers that list this entry's key in `recipes`; None: the method's own recipe.

    Attributes:
        lr: the peak learning rate.
        epochs: passes over the training images.
        retrain_lr: the rate of a winner that trains anew.
        retrain_epochs: its epochs.
        search: as `method.search`, under these trainers.
    """

    lr: float | None = number(None, above=0)
    epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    retrain_lr: float | None = number(None, above=0)
    retrain_epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    search: dict[str, Any] = field(default_factory=dict)


@dataclass
class MethodConf:
    """A method and its recipes.

    Attributes:
        name: of its class.
        options: arguments of its class (listed below).
        search: what its search takes in place of what the `search` group says, unless it is typed.
        published: for each task what `hparams=published` takes.
        published_with: the options that these values are for.
        grid: for each axis the values that `hparams=val_grid` tries.
    """

    name: str = MISSING
    options: dict[str, Any] = field(default_factory=dict)
    recipe: RecipeConf = field(default_factory=RecipeConf)
    retrain: RecipeConf = field(default_factory=RecipeConf)
    trainers: dict[str, TrainerRecipeConf] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    published: dict[str, dict[str, Any]] = field(default_factory=dict)
    published_with: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
