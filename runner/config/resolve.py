"""From what Hydra composed to a `Run`: the one place where a config is read, checked and decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data import user_path
from glora.backbones import (
    Backbone,
    WeightsError,
    known_model,
    no_drop_path,
    settled_normalization,
    takes_drop_path,
)
from glora.construction import kwargs_problems
from runner.config import compute
from runner.config.dataset import read_dataset
from runner.config.errors import ConfigError
from runner.config.fields import build, problems_of
from runner.config.identity import SHORTHANDS, identity_of, recipe_digest, run_directory
from runner.config.method import read_method, read_training, trainer_entry
from runner.config.overrides import meant
from runner.config.plugins import load_plugins
from runner.config.protocol import Protocol
from runner.config.run import UNSEARCHED, MethodChoice, Run, Tracking
from runner.config.schema import BackboneConf, TrainConf
from runner.config.search import LIMITS, UPPER, read_search

C = TypeVar("C")

ASSETS = Path(__file__).resolve().parent.parent / "assets"
EMBEDDED = "embedded:"
"""What a weights file begins with that the project ships."""


def typed_keys(overrides: Sequence[str]) -> set[str]:
    """The keys that the command line sets; of a mapping, also those inside, as "method.grid.lr"."""
    keys = set()
    if isinstance(overrides, ListConfig):  # Hydra's own; "seed=${search.seed}" in it is text, and no interpolation yet
        overrides = cast("list[str]", OmegaConf.to_container(overrides, resolve=False))
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        keys.add(override.key_or_group)
        value = override.value()
        if isinstance(value, dict):
            keys |= {f"{override.key_or_group}.{k}" for k in value}
    return keys | {f"method.options.{k}" for k in keys & set(SHORTHANDS)}


def read_conf(raw: DictConfig, schema: type[C]) -> C:
    """The typed config of a script.

    Args:
        raw: what Hydra composed.
        schema: the dataclass of the script's keys, or one that it extends.

    Raises:
        ConfigError: for unknown keys and values of another type.
    """
    problems = list(_unknown_keys(raw, OmegaConf.get_type(raw) or schema))
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        conf = OmegaConf.to_object(raw)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from error
    if not isinstance(conf, schema):
        raise ConfigError("the config does not start from its schema, as configs/train.yaml does from base_train")
    return conf


def _unknown_keys(raw: DictConfig, typed: Any, prefix: str = "") -> Iterator[str]:
    """The keys that Hydra's + put where the schema has none, at any depth."""
    known = {f.name for f in fields(typed)}
    for key in map(str, raw):
        if key not in known:
            value = cast("dict[str, object]", OmegaConf.to_container(raw, resolve=False))[key]
            yield f"unknown key {prefix}{key}={value}; {meant(key, sorted(known), prefix)}"
            continue
        node = raw._get_node(key)
        if isinstance(node, DictConfig) and dataclasses.is_dataclass(kind := OmegaConf.get_type(node)):
            yield from _unknown_keys(node, kind, f"{prefix}{key}.")


def resolve(raw: DictConfig, typed: Collection[str] = ()) -> Run:
    """The run that a composed config names.

    Args:
        raw: what Hydra composed.
        typed: the keys of the command line (`typed_keys`); what was typed wins, an option's default too.

    Raises:
        ConfigError: with every problem found, one a line.
    """
    conf = read_conf(raw, TrainConf)
    load_plugins(conf.plugins)
    problems = list(problems_of(conf))
    if conf.device not in compute.devices():
        problems.append(f"device={conf.device} is not one of those of this machine: {', '.join(compute.devices())}")
    problems += _backbone_problems(conf.backbone)
    protocol, found = _read_protocol(conf.protocol)
    problems += found
    method, found = read_method(conf, typed)
    problems += found
    search, found = read_search(_search_keys(conf, typed), method, protocol)
    problems += found
    if problems:  # a data set is looked up on the disk for a request that could run
        sound = replace(conf, backbone=replace(conf.backbone, normalization="imagenet"))  # what is wrong there is said
        raise ConfigError("\n".join(problems + (read_dataset(sound, protocol)[1] if _quick(conf) else [])))
    dataset, problems = read_dataset(conf, protocol)
    if dataset is None or protocol is None or method is None or search is None:
        raise ConfigError("\n".join(problems))
    images = dataset.task.split_sizes[protocol.training]
    training, found = read_training(conf, method, images, typed)
    problems += found
    problems += _runtime_problems(conf, method)
    problems += compute.rank_problems(conf.device, images if training is None else training.recipe.batch_size)
    if training is not None and training.grid is not None and not protocol.holds_out_val200:
        problems.append(f"hparams=val_grid chooses on val200, which protocol={protocol.name} trains on; "
                        "use protocol=clean")  # fmt: skip
    if problems or training is None:
        raise ConfigError("\n".join(problems))
    recipe, drop_path_rate = training.recipe, training.drop_path_rate
    identity = identity_of(
        conf,
        dataset.identity,
        method.options,
        recipe,
        dataset.data.normalization,
        drop_path_rate,
        protocol,
        training.grid,
    )
    output_root = user_path(conf.output_root, "output_root")
    directory = run_directory(output_root, dataset.directory, identity)
    published = conf.method.published if conf.hparams == "published" else {}
    family, r = conf.backbone.family, conf.runtime
    return Run(
        task=dataset.task,
        data=dataset.data,
        backbone=_backbone(conf.backbone, drop_path_rate),
        method=method,
        recipe=recipe,
        trainer=conf.trainer.name,
        eval_every=conf.trainer.eval_every,
        protocol=protocol,
        hparams=conf.hparams,
        grid=training.grid,
        search=search.choice(directory, protocol, family, training.retrain) if method.searched else None,
        compute=compute.decide(
            compute.device_of(conf.device), conf.precision, r.graph, r.compile, r.last_block,
            method.kind.static_graph, recipe.unused_grad == "zero",
        ),
        tracking=Tracking(conf.logger.wandb, conf.logger.project, conf.details, conf.logger.group),
        seed=conf.seed,
        export=conf.export,
        output_root=output_root,
        directory=directory,
        identity=identity,
        recipe_digest=recipe_digest(identity, training.grid, published),
    )  # fmt: skip


def _search_keys(conf: TrainConf, typed: Collection[str]) -> dict[str, Any]:
    """The keys of the search: what was typed, else what the method says for the trainer or for all, else the group."""
    typed_there = {k: v for k, v in conf.method.search.items() if f"method.search.{k}" in typed}
    own = {**conf.method.search, **trainer_entry(conf).search, **typed_there}
    own = {k: v for k, v in own.items() if f"search.{k}" not in typed}
    if any(f"search.{k}" in typed and conf.search.get(k) is not None for k in UPPER):  # the method's own limit ends
        own = {k: v for k, v in own.items() if k not in UPPER or k in typed_there}
    if str({**conf.search, **own}.get("winner")) in UNSEARCHED:  # a method's limits are on what a search finds
        own = {k: v for k, v in own.items() if k not in LIMITS or k in typed_there}
    return {**conf.search, **own}


def _quick(conf: TrainConf) -> bool:
    """Whether the data set's keys can be checked without looking at image files."""
    return conf.dataset is not None and conf.dataset.id != "folder"


def _backbone_problems(b: BackboneConf) -> list[str]:
    problems = list(kwargs_problems(b.kwargs))
    try:
        known_model(b.timm_name)
        settled_normalization(b.normalization, b.timm_name)
    except WeightsError as error:
        return [*problems, str(error)]
    except ValueError as error:
        return [*problems, f"backbone.normalization={error}"]
    if b.drop_path_rate and not takes_drop_path(b.timm_name):
        problems.append(no_drop_path(b.timm_name, b.drop_path_rate))
    return problems


def _read_protocol(values: Mapping[str, Any]) -> tuple[Protocol | None, list[str]]:
    try:
        return build(Protocol, values, "protocol."), []
    except ValueError as error:
        return None, str(error).splitlines()


def _runtime_problems(conf: TrainConf, method: MethodChoice) -> list[str]:
    zero = conf.optimizer.unused_grad == "zero"
    r = conf.runtime
    return list(compute.problems(method.name, r.graph, r.compile, method.kind.static_graph, zero))


def _backbone(b: BackboneConf, drop_path_rate: float) -> Backbone:
    weights = None
    if b.weights is not None and b.pretrained:
        name = b.weights.removeprefix(EMBEDDED)
        weights = ASSETS / name if name != b.weights else user_path(b.weights, "backbone.weights")
    return Backbone(b.name, b.timm_name, b.kwargs, b.pretrained, weights, drop_path_rate, b.family)
