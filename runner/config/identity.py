"""What names a run: the resolved training config, its digest, and the words of its directory.

Device, runtime, tracking, search settings and places are no part of it, so that the same training is the same run
wherever it is made. Values of keys that came later are left out where they are what everybody had before: literal
values, so that a default that changes does not turn an old directory into another run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from glora.recipe import Recipe
from runner.config.errors import ConfigError
from runner.config.grid import Grid, locate
from runner.config.protocol import FOUNDING, OF_SEARCHES, Protocol
from runner.config.schema import TrainConf

LONGEST = 255
"""Bytes of a folder's name, as file systems have it."""

SHORTHANDS = ("ranks", "tensors", "convs")
"""Options that have a key at the top of the config, and so a place at the top of the identity."""

BEFORE = {"precision": "fp32", "tensors": "ABCDE", "convs": False}
SUPERNET_BEFORE = {"sampling": "uniform", "draws": 1, "distill": False, "ema": None}
OPTIMIZER_BEFORE = {"name": "adamw", "decay_1d": True, "warmup_lr": 1e-6, "min_lr": 1e-5}
BREEDING_BEFORE = {"parents": 10, "mutants": 25, "crossovers": 25, "mutation_probability": 0.2}
"""What every search's directory was named with, whether or not the search had such a setting."""
SEARCH_BEFORE = {"fitness": "accuracy", "ties": "params", "extremes": False, "max_share": None, "winner": "subnet",
                 "finetune_epochs": 0, "finetune_scratch": False, "learn_gates": False,
                 "finetune_lr": None, "random_subnets": 20}  # fmt: skip
"""What every search did before these were settings."""


def digest(value: object) -> str:
    """8 hex digits of the canonical JSON of `value`."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def identity_of(
    conf: TrainConf,
    dataset: Mapping[str, Any],
    options: Mapping[str, Any],
    recipe: Recipe,
    normalization: str | Mapping[str, Any],
    drop_path_rate: float,
    protocol: Protocol,
    grid: Grid | None,
) -> dict[str, Any]:
    """What decides a training run, as JSON values; of a grid, all its points.

    Args:
        conf: the config as it was composed.
        dataset: id and, for few-shot lists, which ones.
        options: of the method, all of them.
        recipe: as resolved.
        normalization: of the images, as resolved.
        drop_path_rate: of the backbone, as resolved.
        protocol: as resolved.
        grid: None without `hparams=val_grid`.
    """
    b, t = conf.backbone, conf.trainer
    short = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items() if k in SHORTHANDS}
    own = {k: v for k, v in options.items() if k not in SHORTHANDS}
    optimizer = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "unused_grad": recipe.unused_grad}
    later = {"name": recipe.optimizer, **{k: getattr(recipe, k) for k in ("decay_1d", "warmup_lr", "min_lr")}}
    out: dict[str, Any] = {
        "dataset": dict(dataset),
        "backbone": {
            **{k: getattr(b, k) for k in ("name", "timm_name", "kwargs", "pretrained", "weights", "image_size")},
            "normalization": normalization,
            "drop_path_rate": drop_path_rate,
        },
        "method": {"name": conf.method.name, **({"options": own} if own else {})},
        "trainer": {"name": t.name, "epochs": recipe.epochs, "warmup_epochs": recipe.warmup_epochs,
                    "batch_size": recipe.batch_size, "eval_every": t.eval_every, "max_steps": recipe.max_steps,
                    **({} if recipe.schedule == "glora" else {"schedule": recipe.schedule})},
        "optimizer": optimizer | {k: v for k, v in later.items() if v != OPTIMIZER_BEFORE[k]},
        "protocol": _protocol(protocol),
        **{k: getattr(conf, k) for k in ("hparams", "seed", "source", "codec", "resize")},
        **{k: v for k, v in {**short, "precision": conf.precision}.items() if BEFORE.get(k) != v or k not in BEFORE},
    }  # fmt: skip
    supernet = {k: getattr(recipe, k) for k, v in SUPERNET_BEFORE.items() if getattr(recipe, k) != v}
    if supernet:
        out["supernet"] = supernet
    if grid is not None:
        out["trainer"]["lr_factors"] = list(grid.factors)
        for axis, values in grid.axes.items():
            part, key = locate(out, axis)
            part[key] = list(values)
    return out


def _protocol(protocol: Protocol) -> dict[str, Any]:
    """The name alone for what the founding protocols were then, else every field but those that name searches."""
    founding = FOUNDING.get(protocol.name)
    if founding is not None and replace(founding, **{k: getattr(protocol, k) for k in OF_SEARCHES}) == protocol:
        return {"name": protocol.name}
    return {k: v for k, v in asdict(protocol).items() if k not in OF_SEARCHES}


def recipe_digest(identity: Mapping[str, Any], grid: Grid | None, published: Mapping[str, Mapping[str, Any]]) -> str:
    """What the seeds and tasks of one table row share: the identity without seed, task and learning rate.

    Args:
        identity: of the run.
        grid: of the run; a learning rate that is one of its axes is part of the recipe.
        published: with `hparams=published` the method's values by task, which differ and still are one row; else empty.
    """
    shared: dict[str, Any] = json.loads(json.dumps({k: v for k, v in identity.items() if k not in ("dataset", "seed")}))
    if grid is None or "lr" not in grid.axes or grid.factors:
        del shared["optimizer"]["lr"]
    for axis in {axis for values in published.values() for axis in values}:
        part, key = locate(shared, axis)
        part.pop(key, None)
    return digest(shared)


def run_directory(output_root: Path, dataset: str, identity: Mapping[str, Any]) -> Path:
    """<output_root>/<dataset>/<backbone>-<method>[-r8-4]-<protocol>-<trainer>-seed0-<hash>.

    Raises:
        ConfigError: for a name that cannot be part of a path.
    """
    ranks = "-r" + "-".join(map(str, identity["ranks"])) if "ranks" in identity else ""
    parts = ("backbone", "method", "protocol", "trainer")
    backbone, method, *names = (_part(f"{part}.name", identity[part]["name"]) for part in parts)
    readable = "-".join([backbone, method + ranks, *names])
    folder = f"{readable}-seed{identity['seed']}-{digest(identity)}"
    for name in (dataset, folder):
        if (size := len(name.encode())) > LONGEST:
            raise ConfigError(f"{name[:60]}... is too long for a folder ({size} bytes, at most {LONGEST}); "
                              "shorten backbone.name, trainer.name, ranks or the name of dataset.root")  # fmt: skip
    return output_root / _part("dataset.id", dataset) / folder


def _part(key: str, name: str) -> str:
    """A name as a part of a path, which it must not lead out of. Raises ConfigError where it is none."""
    if not name or not name.isprintable() or name.startswith(".") or {*"/\\"} & {*name}:
        raise ConfigError(f"{key}={name!r} becomes part of a folder's name: without slashes, and no dot first")
    return name


def without_later(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a search without those that came later, where they are what every search did before."""
    return {k: v for k, v in settings.items() if k not in SEARCH_BEFORE or v != SEARCH_BEFORE[k]}


NAMING = {"generations": "g", "population": "p", "seed": "seed"}
"""The settings of a search that its directory's name shows, and their marks."""


def search_directory(run: Path, name: str, settings: Mapping[str, Any]) -> Path:
    """<run>/search/<name>-g20-p50-seed1-<hash>, one directory per distinct search setting; without those it has not."""
    named = {"name": name, **BREEDING_BEFORE, **without_later(settings)}
    parts = [
        _part("search.name", name),
        *(f"{mark}{settings[k]}" for k, mark in NAMING.items() if k in settings),
    ]
    return run / "search" / "-".join([*parts, digest(named)])
