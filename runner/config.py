"""What the typed config (`runner.schema`) means: its checks, and the rules that fill in what was left open."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data import (
    AUGMENTS,
    CODECS,
    LIST_SEEDS,
    RESIZES,
    SHOT_ROWS,
    TASKS,
    DataError,
    OwnImages,
    TaskInfo,
    default_data_root,
    get_task,
    own_images,
    shot_task,
)
from glora.backbones import NORMALIZATIONS, Backbone
from glora.methods import METHODS, GLoRA
from glora.options import check_ranks
from glora.search import SEARCHES
from glora.train import OPTIMIZERS, Recipe
from runner import runtime
from runner.grid import is_typed, settle, spread
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
PROTOCOLS = ("clean", "clean_1000", REFERENCE)
EXPORTS = ("merged", "peft")


class ConfigError(Exception):
    """The request cannot be run; the message lists every problem with what to type instead."""


class NotSearched(ConfigError):
    """The method has nothing to search: a mistake in a single job, passed over in a sweep over methods."""


def typed_keys(words: list[str]) -> set[str]:
    """The keys that words of the command line set; of a mapping, also those inside, as "method.grid.lr"."""
    keys = set()
    for word in OverridesParser.create().parse_overrides(words):
        keys.add(word.key_or_group)
        value = word.value()
        if isinstance(value, dict):
            keys |= {f"{word.key_or_group}.{k}" for k in value}
    return keys


def read(raw: DictConfig, typed: Collection[str] = ()) -> TrainConf:
    """The checked config; `raw` is what Hydra composed, `typed` the keys of the command line.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    known = {f.name for f in fields(TrainConf)}
    problems = []
    for key in sorted(set(map(str, raw)) - known):
        near = difflib.get_close_matches(key, known, 1)
        problems.append(
            f"unknown key {key}={raw[key]}"
            + (f"; did you mean {near[0]}?" if near else f"; known keys: {', '.join(sorted(known))}")
        )
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        config = OmegaConf.to_object(raw)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    assert isinstance(config, TrainConf)
    problems = _method_problems(config)
    unused = sorted(k for k in typed if k.startswith(("method.grid", "trainer.lr_factors")))
    if unused and config.hparams != "val_grid":
        problems.append(f"{', '.join(unused)}: a grid needs hparams=val_grid")
    if not problems and config.hparams == "val_grid" and config.dataset is not None:
        untyped = replace(config, optimizer=replace(config.optimizer, lr=None))
        problems = settle(config, typed, learning_rate(untyped))
    if not problems:
        fill(config, typed)
    problems += check(config)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _method_problems(c: TrainConf) -> list[str]:
    """What is wrong with the method's options and its published table; options are completed with their defaults."""
    kind = METHODS.get(c.method.name)
    if kind is None:
        return [f"method={c.method.name} is not one of {', '.join(METHODS)}"]
    if kind is GLoRA:
        return ["method=glora has no options here; write ranks=[8,4]"] if c.method.options else []
    out = []
    try:
        c.method.options = kind.check_options(c.method.options)
        if c.dataset is not None:
            kind.for_task(c.method.options, c.dataset.id)
    except ValueError as error:
        out.append(f"method.options: {error}")
    if c.hparams == "published":
        tasks = c.method.published
        if c.dataset is not None and c.dataset.id not in tasks:
            known = f"it has them for {', '.join(tasks)}" if tasks else "its configs/method file holds no table"
            out.append(f"hparams=published: method={c.method.name} has no published values for {c.dataset.id}; {known}")
    return out


def fill(c: TrainConf, typed: Collection[str] = ()) -> None:
    """Decide what was left open, in place.

    What was typed wins, an option's default too where `typed` holds its key; then, with `hparams=published`, the
    method's values for the task; then the trainer's for the method; then the method's own recipe.
    """
    key, method_recipe = _schedule(c)
    own = asdict(method_recipe)
    if c.hparams == "published" and c.dataset is not None:
        defaults = METHODS[c.method.name].options()
        for key, value in c.method.published[c.dataset.id].items():
            if key not in defaults:
                own[key] = value
                if key == "lr" and c.optimizer.lr is None:
                    c.optimizer.lr = value
            elif not is_typed(c, key, typed):
                c.method.options[key] = type(defaults[key])(value)
    t, o, b = c.trainer, c.optimizer, c.backbone
    if is_shots(c) and c.dataset is not None and c.dataset.shots in SHOT_ROWS[c.dataset.id].shots:
        # One image of each of 37 classes makes no batch of 64.
        t.batch_size = min(t.batch_size, task(c).split_sizes["train800"])
    if t.epochs is None:
        t.epochs = t.epochs_of.get(key) or t.epochs_of.get("default") or own["epochs"]
    if retrained(c):
        key, retrain = f"{c.method.name}_retrained", c.method.retrain
        s = c.search
        s.retrain_epochs = s.retrain_epochs or t.epochs_of.get(key) or t.epochs_of.get("default") or retrain.epochs
        s.retrain_lr = s.retrain_lr or t.lr.get(key) or retrain.lr
    t.warmup_epochs = own["warmup_epochs"] if t.warmup_epochs is None else t.warmup_epochs
    b.drop_path_rate = own["drop_path"] if b.drop_path_rate is None else b.drop_path_rate
    o.name = own["optimizer"] if o.name is None else o.name
    for key in ("weight_decay", "decay_1d", "warmup_lr", "min_lr"):
        if getattr(o, key) is None:
            setattr(o, key, own[key])


def _schedule(c: TrainConf) -> tuple[str, RecipeConf]:
    """The method's own recipe and the trainer's word for it; a given subnet trains as the winner of a search does."""
    kind = METHODS[c.method.name]
    if kind.retrained and not searched(c):
        return f"{c.method.name}_retrained", c.method.retrain
    return c.method.name, c.method.recipe


def check(c: TrainConf) -> list[str]:
    """All problems across fields; empty if the run can start."""
    out = []
    if c.dataset is not None:
        out += _dataset_problems(c)
    try:
        check_ranks(c.ranks)
    except ValueError as error:
        out.append(str(error))
    for name, value, allowed in (
        ("protocol", c.protocol.name, PROTOCOLS),
        ("hparams", c.hparams, ("global", "val_grid", "published")),
        ("optimizer.name", c.optimizer.name or "adamw", OPTIMIZERS),
        ("codec", c.codec, CODECS),
        ("export", c.export, EXPORTS),
        ("resize", c.resize, RESIZES),
        ("search", c.search.name, tuple(SEARCHES)),
        ("optimizer.unused_grad", c.optimizer.unused_grad, ("zero", "none")),
        ("backbone.normalization", c.backbone.normalization, tuple(NORMALIZATIONS)),
        ("logger.wandb", c.logger.wandb, ("auto", "online", "offline", "disabled")),
        ("runtime.graph", c.runtime.graph, runtime.GRAPHS),
        ("runtime.compile", c.runtime.compile, runtime.COMPILES),
        ("precision", c.precision, tuple(runtime.PRECISIONS)),
    ):
        if value not in allowed:
            out.append(f"{name}={value} is not one of {', '.join(allowed)}")
    out += runtime.problems(c)
    for name, number, low in (
        ("trainer.epochs", c.trainer.epochs, 1),
        ("trainer.eval_every", c.trainer.eval_every, 1),
        ("trainer.warmup_epochs", c.trainer.warmup_epochs, 0),
        ("search.generations", c.search.generations, 1),
        ("search.population", c.search.population, 1),
        ("search.parents", c.search.parents, 1),
        ("search.val_limit", c.search.val_limit, 1),
        ("search.retrain_epochs", c.search.retrain_epochs, 1),
    ):
        if number is not None and number < low:
            out.append(f"{name}={number} must be at least {low}")
    if not 1 <= c.trainer.batch_size <= 800:
        out.append(f"trainer.batch_size={c.trainer.batch_size} must be between 1 and 800, the training images")
    if c.optimizer.lr is not None and c.optimizer.lr <= 0:
        out.append(f"optimizer.lr={c.optimizer.lr} must be positive")
    if c.search.retrain_lr is not None and c.search.retrain_lr <= 0:
        out.append(f"search.retrain_lr={c.search.retrain_lr} must be positive")
    given = [f"search.{k}" for k in ("retrain_epochs", "retrain_lr") if getattr(c.search, k) is not None]
    if given and c.method.name in METHODS and not retrained(c):
        out.append(f"{', '.join(given)}: only the winner of a search with method=noah is retrained")
    if c.trainer.max_steps is not None and c.trainer.max_steps < 1:
        out.append(f"trainer.max_steps={c.trainer.max_steps} must be at least 1")
    return out


def _dataset_problems(c: TrainConf) -> list[str]:
    d = c.dataset
    assert d is not None
    if d.id in SHOT_ROWS:
        return _shot_problems(c)
    given = [f"dataset.{k}" for k in SHOT_KEYS if getattr(d, k) is not None]
    if given:
        return [f"{', '.join(given)} is for few-shot and domain-generalisation sets: {', '.join(SHOT_ROWS)}"]
    if d.id != "folder":
        given = [f"dataset.{k}" for k in ("root", "train", "val", "test") if getattr(d, k) is not None]
        unknown = [f"dataset {d.id!r} is unknown; available: {', '.join(TASKS)}, folder"] if d.id not in TASKS else []
        return unknown + ([f"{', '.join(given)} is for dataset=folder only"] if given else [])
    if d.root is None:
        return ["dataset=folder needs dataset.root=<folder of class folders, or of train.txt and test.txt>"]
    try:
        images = own(c).info.split_sizes["train800"]
    except DataError as error:
        return [str(error)]
    if c.trainer.batch_size > images:
        return [f"trainer.batch_size={c.trainer.batch_size} is more than the {images} training images"]
    return []


SHOT_KEYS = ("shots", "list_seed", "augmentation", "class_subset")


def _shot_problems(c: TrainConf) -> list[str]:
    d, out = c.dataset, []
    assert d is not None
    row = SHOT_ROWS[d.id]
    for key, value, allowed in (
        ("dataset.shots", d.shots, row.shots),
        ("dataset.list_seed", d.list_seed, LIST_SEEDS),
        ("dataset.augmentation", d.augmentation, AUGMENTS),
        ("dataset.class_subset", d.class_subset, ("none", "dataset") if row.targets else ("none",)),
        ("protocol", c.protocol.name, ("clean",)),  # VTAB-1K's 1000 images and its published code are the others' point
        ("source", c.source, (None,)),
        ("codec", c.codec, ("raw",)),
        ("resize", c.resize, ("bicubic",)),
    ):
        if value not in allowed:
            words = ", ".join("left out" if a is None else str(a) for a in allowed)
            out.append(f"{key}={value} cannot be used with dataset={d.id}; allowed: {words}")
    given = [f"dataset.{k}" for k in ("root", "train", "val", "test") if getattr(d, k) is not None]
    return out + ([f"{', '.join(given)} is for dataset=folder only"] if given else [])


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
    return own_images(Path(d.root).expanduser(), c.backbone.image_size, d.train, d.val, d.test)


def learning_rate(c: TrainConf) -> float:
    """`optimizer.lr`, else the trainer's rate for the method, else the method's, else the task's (Table 4)."""
    assert c.dataset is not None
    if c.optimizer.lr is not None:
        return c.optimizer.lr
    key, method_recipe = _schedule(c)
    return c.trainer.lr.get(key) or method_recipe.lr or c.dataset.lr


def recipe(c: TrainConf) -> Recipe:
    """The library's recipe for this config."""
    o = c.optimizer
    assert c.trainer.epochs is not None and c.trainer.warmup_epochs is not None  # `fill` has decided
    assert o.weight_decay is not None and o.warmup_lr is not None and o.min_lr is not None
    assert o.name is not None and o.decay_1d is not None
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
    )


def weights_path(c: TrainConf) -> Path | None:
    """The weights file; "embedded:<name>" is one that the project ships."""
    if c.backbone.weights is None or not c.backbone.pretrained:
        return None
    prefix, _, name = c.backbone.weights.partition("embedded:")
    return ASSETS / name if prefix == "" and name else Path(c.backbone.weights).expanduser()


def backbone(c: TrainConf) -> Backbone:
    """The library's backbone for this config."""
    b = c.backbone
    assert b.drop_path_rate is not None  # `fill` has decided
    return Backbone(b.name, b.timm_name, b.kwargs, b.pretrained, weights_path(c), b.drop_path_rate)


def data_root(c: TrainConf) -> Path:
    """Where prepared data lives."""
    return Path(c.data_root).expanduser() if c.data_root else default_data_root()


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
        return "GLoRA-" + "-".join(map(str, c.ranks))
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
    if c.precision == "fp32":  # folders from before it was a choice keep their names
        del out["precision"]
    out["optimizer"]["lr"] = learning_rate(c)
    del out["trainer"]["lr"], out["trainer"]["epochs_of"], out["dataset"]["lr"]
    del out["method"]["recipe"], out["method"]["retrain"], out["method"]["published"], out["method"]["grid"]
    if c.hparams == "val_grid":
        spread(c, out)
    else:
        del out["trainer"]["lr_factors"]
    if not c.method.options:
        del out["method"]["options"]
    for key, usual in (("name", "adamw"), ("decay_1d", True), ("warmup_lr", 1e-6), ("min_lr", 1e-5)):
        if out["optimizer"][key] == usual:  # the paper's recipe keeps its words, and so its folders
            del out["optimizer"][key]
    for key in ("root", "train", "val", "test", "class_subset", *(() if is_shots(c) else SHOT_KEYS[:3])):
        del out["dataset"][key]
    if c.dataset is not None and c.dataset.id == "folder":
        out["dataset"]["id"] = own(c).info.id
    return out
