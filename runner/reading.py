"""From what Hydra composed to a checked `TrainConf`, with what was left open filled in."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, fields, replace

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data import SHOT_ROWS
from glora.backbones import WeightsError, settled_normalization, takes_drop_path
from glora.methods import METHODS
from runner.checks import check, method_problems
from runner.config import ConfigError, is_shots, learning_rate, retrained, schedule, task
from runner.grid import is_typed, settle
from runner.schema import TrainConf


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
    problems = method_problems(config)
    unused = sorted(k for k in typed if k.startswith(("method.grid", "trainer.lr_factors")))
    if unused and config.hparams != "val_grid":
        problems.append(f"{', '.join(unused)}: a grid needs hparams=val_grid")
    if "ranks" in typed and config.method.name in METHODS and config.method.name != "glora":
        # Of a method with a rank of its own these could be taken for it; others of a sweep pass over GLoRA's word.
        own = [f"method.options.{k}=" for k in config.method.options if "rank" in k]
        problems += [f"ranks={config.ranks} is for method=glora alone; write {', '.join(own)}"] if own else []
    if not problems and config.hparams == "val_grid" and config.dataset is not None:
        untyped = replace(config, optimizer=replace(config.optimizer, lr=None))
        problems = settle(config, typed, learning_rate(untyped))
    if not problems:
        fill(config, typed)
    problems += check(config)
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def fill(c: TrainConf, typed: Collection[str] = ()) -> None:
    """Decide what was left open, in place.

    What was typed wins, an option's default too where `typed` holds its key; then, with `hparams=published`, the
    method's values for the task; then the trainer's for the method; then the method's own recipe.
    """
    key, method_recipe = schedule(c)
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
    t.schedule = own["schedule"] if t.schedule is None else t.schedule
    if b.drop_path_rate is None:
        b.drop_path_rate = own["drop_path"] if takes_drop_path(b.timm_name) else 0.0
    with suppress(ValueError, WeightsError):  # `check` says what is wrong with it
        b.normalization = settled_normalization(b.normalization, b.timm_name)
    o.name = own["optimizer"] if o.name is None else o.name
    for key in ("weight_decay", "decay_1d", "warmup_lr", "min_lr"):
        if getattr(o, key) is None:
            setattr(o, key, own[key])
