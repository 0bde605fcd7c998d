"""The typed schema of the config: every key a user can set, its type, default, bounds and meaning.

`runner.config.resolve` gives it meaning; nothing behind it sees these classes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, OmegaConf

from data import ALIASES, CODECS, RESIZES
from glora.recipe import OPTIMIZERS, UNUSED_GRADS
from glora.sampling import SAMPLERS
from glora.schedule import SCHEDULES
from runner.config.compute import COMPILES, GRAPHS, LAST_BLOCKS, PRECISIONS
from runner.config.fields import choice, number
from runner.config.method_schema import MOST_EPOCHS, MethodConf

EXPORTS = ("merged", "peft")
HPARAMS = ("global", "val_grid", "published")
WANDB_MODES = ("auto", "online", "offline", "disabled")


@dataclass
class DatasetConf:
    """The task. `train`, `val`, `test` are of one's own images, `shots` and what follows of few-shot lists.

    Attributes:
        id: its name; other names of the same task are read as this one.
        lr: GLoRA's learning rate on it, and that of methods whose recipe leaves it open.
        root: the folder of `dataset=folder`.
        train: images to draw for training; null: what the others leave.
        val: images to draw for selection; null: a fifth of what test leaves.
        test: images to draw for test; null: a fifth.
        shots: images per class.
        list_seed: which of NOAH's lists.
        augmentation: of the training images; "none" for the evaluation transform.
        class_subset: "dataset" restricts the logits on ImageNet-A and -R to their classes.
    """

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
    """A timm model and where its weights come from.

    Attributes:
        name: of the backbone in tables.
        timm_name: architecture, and weights after a dot.
        family: the published backbone that this one is: whose rows, limits and counts are its own.
        kwargs: of timm's constructor.
        pretrained: false starts from random weights.
        weights: a .safetensors or .npz file in place of timm's.
        image_size: in pixels, of both sides.
        normalization: "imagenet", "inception", "none", "timm", or {mean: [r, g, b], std: [r, g, b]}.
        drop_path_rate: of stochastic depth; null: as the recipe says.
    """

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
class TrainerConf:
    """How long and in which batches; null: as the method's recipe says.

    Attributes:
        name: of the trainer.
        recipes: the entries of a method's `trainers` that count here, a later one before an earlier one.
        epochs: passes over the training images.
        default_epochs: the same for methods without such an entry.
        warmup_epochs: of a linear warm-up.
        schedule: the curve of the rate (docs/methods.md).
        batch_size: images of a step.
        eval_every: epochs between two evaluations on the selection split.
        max_steps: the end of a training, whatever its epochs.
        lr_factors: times the recipe's rate, the grid of `hparams=val_grid`.
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
    """null: as the method's recipe says.

    Attributes:
        lr: the peak learning rate.
        weight_decay: of AdamW (decoupled), or of SGD.
        unused_grad: what AdamW does with tensors that a step leaves out (docs/protocols.md).
        name: the optimiser.
        decay_1d: whether biases and other 1-D tensors decay too.
        warmup_lr: where the warm-up starts.
        min_lr: where the cosine ends.
    """

    lr: float | None = number(None, above=0)
    weight_decay: float | None = number(None, low=0, high=1000)
    unused_grad: str = choice("zero", UNUSED_GRADS)
    name: str | None = choice(None, OPTIMIZERS)
    decay_1d: bool | None = None
    warmup_lr: float | None = number(None, low=0)
    min_lr: float | None = number(None, low=0)


@dataclass
class SupernetConf:
    """How the subnets of a supernet train; null: as the method's recipe says.

    Attributes:
        sampling: which subnets a step trains.
        draws: random subnets of a step.
        distill: the random ones learn from the largest.
        ema: decay of a moving average of the weights.
    """

    sampling: str | None = choice(None, SAMPLERS)
    draws: int | None = number(None, low=1, high=1000)
    distill: bool | None = None
    ema: float | None = number(None, above=0, below=1)


@dataclass
class RuntimeConf:
    """How the same numbers are computed; "auto" goes by device and backbone (docs/performance.md).

    Attributes:
        graph: operations of each choice, or one graph for all subnets.
        compile: the mode of `torch.compile`.
        last_block: whether a ViT's last block computes every token.
    """

    graph: str = choice("auto", GRAPHS)
    compile: str = choice("auto", COMPILES)
    last_block: str = choice("auto", LAST_BLOCKS)


@dataclass
class LoggerConf:
    """Weights & Biases.

    Attributes:
        wandb: "auto" is online with a key, else offline.
        project: the name of the project there.
        group: what its runs stand together as; null: one group for each suite, backbone, trainer and protocol.
    """

    wandb: str = choice("auto", WANDB_MODES)
    project: str = "glora-vtab"
    group: str | None = None


@dataclass
class TrainConf:
    """The whole config.

    Attributes:
        ranks: short for `method.options.ranks`.
        tensors: short for `method.options.tensors`.
        convs: short for `method.options.convs`.
        hparams: one recipe per method, a grid on val200, or published values (docs/protocols.md).
        seed: of initialization, order and draws.
        source: where the images of VTAB-1K come from (docs/data.md).
        codec: what the images pass through first.
        resize: the interpolation.
        export: the form that `export.py` writes.
        data_root: where data and caches lie; null: `$GLORA_DATA`, else ~/.cache/glora.
        output_root: where runs and tables lie.
        details: whether `evaluate.py` prints all tables.
        device: "auto", "cpu", "cuda", "cuda:1".
        precision: of the matrix products in training and search.
        plugins: Python files to import first (docs/extending.md).
    """

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
