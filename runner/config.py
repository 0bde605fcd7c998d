"""What a checked config (`runner.reading`) means: the values that stages, folders and tables derive from it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from data import (
    SHOT_ROWS,
    TASKS,
    OwnImages,
    TaskInfo,
    default_data_root,
    get_task,
    own_images,
    shot_task,
    user_path,
)
from glora.backbones import Backbone
from glora.methods import METHODS
from glora.train import Recipe
from runner.grid import spread
from runner.schema import RecipeConf, TrainConf

ASSETS = Path(__file__).parent / "assets"
REFERENCE = "reference_2023_06"
LABELS = {
    "bitfit": "BitFit",
    "lora": "LoRA",
    "noah": "NOAH",
    "fact_tt": "FacT-TT",
    "fact_tk": "FacT-TK",
    "ssf": "SSF",
    "repadapter": "RepAdapter",
    "vpt_shallow": "VPT-Shallow",
    "vpt_deep": "VPT-Deep",
    "adaptformer": "AdaptFormer",
    "adapter_plus": "Adapter+",
    "superlora": "SuperLoRA",
}
"""Row names in tables where capital letters alone do not make the paper's."""
SHOT_KEYS = ("shots", "list_seed", "augmentation", "class_subset")
"""Keys of few-shot and domain-generalisation sets alone."""


class ConfigError(Exception):
    """The request cannot be run; the message lists every problem with what to type instead."""


class NotSearched(ConfigError):
    """The method has nothing to search: a mistake in a single job, passed over in a sweep over methods."""


def schedule(c: TrainConf) -> tuple[str, RecipeConf]:
    """The method's own recipe and the trainer's word for it; a given subnet trains as the winner of a search does."""
    kind = METHODS[c.method.name]
    if kind.retrained and not searched(c):
        return f"{c.method.name}_retrained", c.method.retrain
    return c.method.name, c.method.recipe


def is_shots(c: TrainConf) -> bool:
    """Whether the data set is a few-shot or domain-generalisation one."""
    return c.dataset is not None and c.dataset.id in SHOT_ROWS


def task(c: TrainConf) -> TaskInfo:
    """The task, required here. Raises ConfigError with the list if none was given."""
    if c.dataset is None:
        raise ConfigError(f"name a task: dataset=<id> (one of {', '.join(TASKS)}) or sweep=mini")
    if c.dataset.id in SHOT_ROWS:
        assert c.dataset.shots is not None  # its YAML gives a default
        return shot_task(c.dataset.id, c.dataset.shots)
    return get_task(c.dataset.id) if c.dataset.id != "folder" else own(c).info


def own(c: TrainConf) -> OwnImages:
    """The user's own images of `dataset=folder`. Raises DataError."""
    d = c.dataset
    assert d is not None and d.root is not None
    return own_images(user_path(d.root, "dataset.root"), c.backbone.image_size, d.train, d.val, d.test)


def learning_rate(c: TrainConf) -> float:
    """`optimizer.lr`, else the trainer's rate for the method, else the method's, else the task's (Table 4)."""
    assert c.dataset is not None
    if c.optimizer.lr is not None:
        return c.optimizer.lr
    key, method_recipe = schedule(c)
    return c.trainer.lr.get(key) or method_recipe.lr or c.dataset.lr


def recipe(c: TrainConf) -> Recipe:
    """The library's recipe for this config."""
    o = c.optimizer
    assert c.trainer.epochs is not None and c.trainer.warmup_epochs is not None  # `fill` has decided
    assert o.weight_decay is not None and o.warmup_lr is not None and o.min_lr is not None
    assert o.name is not None and o.decay_1d is not None and c.trainer.schedule is not None
    return Recipe(
        lr=learning_rate(c),
        epochs=c.trainer.epochs,
        warmup_epochs=c.trainer.warmup_epochs,
        batch_size=c.trainer.batch_size,
        weight_decay=o.weight_decay,
        unused_grad=o.unused_grad,
        max_steps=c.trainer.max_steps,
        warmup_lr=o.warmup_lr,
        min_lr=o.min_lr,
        optimizer=o.name,
        decay_1d=o.decay_1d,
        schedule=c.trainer.schedule,
    )


def weights_path(c: TrainConf) -> Path | None:
    """The weights file; "embedded:<name>" is one that the project ships."""
    if c.backbone.weights is None or not c.backbone.pretrained:
        return None
    prefix, _, name = c.backbone.weights.partition("embedded:")
    return ASSETS / name if prefix == "" and name else user_path(c.backbone.weights, "backbone.weights")


def backbone(c: TrainConf) -> Backbone:
    """The library's backbone for this config."""
    b = c.backbone
    assert b.drop_path_rate is not None  # `fill` has decided
    return Backbone(b.name, b.timm_name, b.kwargs, b.pretrained, weights_path(c), b.drop_path_rate)


def data_root(c: TrainConf) -> Path:
    """Where prepared data lives."""
    return user_path(c.data_root, "data_root") if c.data_root else default_data_root()


def output_root(c: TrainConf) -> Path:
    """Where runs and tables are written."""
    return user_path(c.output_root, "output_root")


def search_limit(c: TrainConf) -> int | None:
    """`search.max_params`; under `reference_2023_06` on ViT-B 1.0 M, as the first published code had it."""
    if c.search.max_params is None and c.protocol.name == REFERENCE and c.backbone.name.startswith("vit_b16"):
        return 1_000_000
    return c.search.max_params


def searched(c: TrainConf) -> bool:
    """Whether the method is a supernet, so that a search comes between training and evaluating."""
    return METHODS[c.method.name].searches(c.method.options)


def retrained(c: TrainConf) -> bool:
    """Whether the winner of the search is trained anew instead of inheriting the supernet's weights."""
    return searched(c) and METHODS[c.method.name].retrained


def retraining(c: TrainConf, subnet: str) -> TrainConf:
    """The training of a search's winner: the method with that one subnet, and the recipe of retraining."""
    return replace(
        c,
        method=replace(c.method, options={**c.method.options, "subnet": subnet}),
        trainer=replace(c.trainer, epochs=c.search.retrain_epochs),
        optimizer=replace(c.optimizer, lr=c.search.retrain_lr),
    )


def final_split(c: TrainConf) -> str:
    """The images that the measured weights were trained on."""
    return "train800" if c.protocol.name == "clean" else "train800val200"


def label(c: TrainConf) -> str:
    """The row's name in tables, as the paper writes it."""
    if c.method.name == "glora":
        marks = [c.tensors] * (c.tensors != TrainConf.tensors) + ["convolutions too"] * c.convs
        return "GLoRA-" + "-".join(map(str, c.ranks)) + (f" ({', '.join(marks)})" if marks else "")
    subnet = c.method.options.get("subnet", "search")
    mark = {"search": "", "published": " (published subnets)"}.get(subnet, " (given subnet)")
    return LABELS.get(c.method.name, c.method.name.replace("_", " ").title()) + mark


def identity(c: TrainConf) -> dict[str, Any]:
    """What decides a training run: the config without device, runtime, logger, search and places; of a grid, all."""
    out = asdict(c)
    for key in ("search", "logger", "device", "runtime", "output_root", "data_root", "export"):
        del out[key]
    if c.method.name != "glora":
        del out["ranks"]
    for key in ("precision", "tensors", "convs"):  # folders from before these were choices keep their names
        if getattr(c, key) == getattr(TrainConf, key):
            del out[key]
    out["optimizer"]["lr"] = learning_rate(c)
    del out["trainer"]["lr"], out["trainer"]["epochs_of"], out["dataset"]["lr"]
    for key in ("recipe", "retrain", "published", "published_with", "grid"):
        del out["method"][key]
    if c.hparams == "val_grid":
        spread(c, out)
    else:
        del out["trainer"]["lr_factors"]
    if not c.method.options:
        del out["method"]["options"]
    for key, usual in (("name", "adamw"), ("decay_1d", True), ("warmup_lr", 1e-6), ("min_lr", 1e-5)):
        if out["optimizer"][key] == usual:  # the paper's recipe keeps its words, and so its folders
            del out["optimizer"][key]
    if out["trainer"]["schedule"] == "glora":  # likewise
        del out["trainer"]["schedule"]
    for key in ("root", "train", "val", "test", "class_subset", *(() if is_shots(c) else SHOT_KEYS[:3])):
        del out["dataset"][key]
    if c.dataset is not None and c.dataset.id == "folder":
        out["dataset"]["id"] = own(c).info.id
    return out
