"""What cannot be run, said in the user's words: every check across fields of the typed config (`runner.schema`)."""

from __future__ import annotations

import math

from data import AUGMENTS, CODECS, LIST_SEEDS, RESIZES, SHOT_ROWS, TASKS, DataError
from glora.backbones import WeightsError, known_model, no_drop_path, settled_normalization, takes_drop_path
from glora.methods import METHODS, GLoRA
from glora.options import check_ranks, check_tensors
from glora.schedule import SCHEDULES
from glora.search import SEARCHES
from glora.train import OPTIMIZERS, UNUSED_GRADS
from runner import runtime
from runner.config import REFERENCE, SHOT_KEYS, own, retrained
from runner.schema import TrainConf

PROTOCOLS = ("clean", "clean_1000", REFERENCE)
EXPORTS = ("merged", "peft")


def method_problems(c: TrainConf) -> list[str]:
    """What is wrong with the method's options and its published table; options are completed with their defaults."""
    kind = METHODS.get(c.method.name)
    if kind is None:
        return [f"method={c.method.name} is not one of {', '.join(METHODS)}"]
    if kind is GLoRA:
        out = ["method=glora has no options here; write ranks=[8,4]"] if c.method.options else []
        if c.hparams == "published":
            out.append("hparams=published: the rates published for method=glora are those of hparams=global")
        return out
    out = []
    try:
        c.method.options = kind.check_options(c.method.options)
        if c.dataset is not None:
            kind.for_task(c.method.options, c.dataset.id)
    except ValueError as error:
        out.append(f"method.options: {error}")
    return out + (_published_problems(c) if c.hparams == "published" else [])


def _published_problems(c: TrainConf) -> list[str]:
    tasks, options, out = c.method.published, c.method.options, []
    if c.dataset is not None and c.dataset.id not in tasks:
        known = f"it has them for {', '.join(tasks)}" if tasks else "its configs/method file holds no table"
        out.append(f"hparams=published: method={c.method.name} has no published values for {c.dataset.id}; {known}")
    for key, value in c.method.published_with.items():
        if options.get(key) != value:
            given = f"{key}={options.get(key)}"
            out.append(f"hparams=published: the values of method={c.method.name} are for {key}={value}, not {given}")
    return out


def check(c: TrainConf) -> list[str]:
    """All problems across fields; empty if the run can start."""
    out = []
    if c.dataset is not None:
        out += _dataset_problems(c)
    for checked in (lambda: check_ranks(c.ranks), lambda: check_tensors(c.tensors)):
        try:
            checked()
        except ValueError as error:
            out.append(str(error))
    given = [f"{k}={getattr(c, k)}" for k in ("tensors", "convs") if getattr(c, k) != getattr(TrainConf, k)]
    if given and c.method.name != "glora":
        out.append(f"{', '.join(given)} is for method=glora alone")
    for name, value, allowed in (
        ("protocol", c.protocol.name, PROTOCOLS),
        ("hparams", c.hparams, ("global", "val_grid", "published")),
        ("optimizer.name", c.optimizer.name or "adamw", OPTIMIZERS),
        ("codec", c.codec, CODECS),
        ("export", c.export, EXPORTS),
        ("resize", c.resize, RESIZES),
        ("search", c.search.name, tuple(SEARCHES)),
        ("trainer.schedule", c.trainer.schedule or "glora", tuple(SCHEDULES)),
        ("optimizer.unused_grad", c.optimizer.unused_grad, UNUSED_GRADS),
        ("logger.wandb", c.logger.wandb, ("auto", "online", "offline", "disabled")),
        ("runtime.graph", c.runtime.graph, runtime.GRAPHS),
        ("runtime.compile", c.runtime.compile, runtime.COMPILES),
        ("runtime.last_block", c.runtime.last_block, runtime.LAST_BLOCKS),
        ("precision", c.precision, tuple(runtime.PRECISIONS)),
    ):
        if value not in allowed:
            out.append(f"{name}={value} is not one of {', '.join(allowed)}")
    out += runtime.problems(c)
    out += _backbone_problems(c)
    for name, number, low in (
        ("trainer.epochs", c.trainer.epochs, 1),
        ("trainer.eval_every", c.trainer.eval_every, 1),
        ("trainer.warmup_epochs", c.trainer.warmup_epochs, 0),
        ("search.generations", c.search.generations, 1),
        ("search.population", c.search.population, 1),
        ("search.parents", c.search.parents, 1),
        ("search.val_limit", c.search.val_limit, 1),
        ("search.retrain_epochs", c.search.retrain_epochs, 1),
        ("search.mutants", c.search.mutants, 0),
        ("search.crossovers", c.search.crossovers, 0),
        ("search.min_params", c.search.min_params, 0),
        ("search.max_params", c.search.max_params, 0),
        ("backbone.image_size", c.backbone.image_size, 1),
        ("optimizer.weight_decay", c.optimizer.weight_decay, 0),
        ("optimizer.min_lr", c.optimizer.min_lr, 0),
        ("optimizer.warmup_lr", c.optimizer.warmup_lr, 0),
    ):
        if number is not None and not low <= number < math.inf:
            out.append(f"{name}={number} must be at least {low}")
    if not 0 <= c.search.mutation_probability <= 1:
        out.append(f"search.mutation_probability={c.search.mutation_probability} must be between 0 and 1")
    if c.backbone.drop_path_rate is not None and not 0 <= c.backbone.drop_path_rate < 1:
        out.append(f"backbone.drop_path_rate={c.backbone.drop_path_rate} must be at least 0 and below 1")
    if not 1 <= c.trainer.batch_size <= 800:
        out.append(f"trainer.batch_size={c.trainer.batch_size} must be between 1 and 800, the training images")
    for name, rate in (("optimizer.lr", c.optimizer.lr), ("search.retrain_lr", c.search.retrain_lr)):
        if rate is not None and not 0 < rate < math.inf:
            out.append(f"{name}={rate} must be positive")
    given = [f"search.{k}" for k in ("retrain_epochs", "retrain_lr") if getattr(c.search, k) is not None]
    if given and c.method.name in METHODS and not retrained(c):
        out.append(f"{', '.join(given)}: only the winner of a search with method=noah is retrained")
    if c.trainer.max_steps is not None and c.trainer.max_steps < 1:
        out.append(f"trainer.max_steps={c.trainer.max_steps} must be at least 1")
    return out


def _backbone_problems(c: TrainConf) -> list[str]:
    b = c.backbone
    try:
        known_model(b.timm_name)
        settled_normalization(b.normalization, b.timm_name)
    except WeightsError as error:
        return [str(error)]
    except ValueError as error:
        return [f"backbone.normalization={error}"]
    if b.drop_path_rate and not takes_drop_path(b.timm_name):
        return [no_drop_path(b.timm_name, b.drop_path_rate)]
    return []


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
