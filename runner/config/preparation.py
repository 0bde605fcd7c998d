"""From the config of `prepare.py` to what it is to make ready."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import ClassVar

from omegaconf import DictConfig
from pydantic import TypeAdapter

from data import CODECS, LIST_SEEDS, RESIZES, SHOTS, SUITES, VTAB_SOURCES, get_task, user_path
from runner.config.dataset import data_root_of
from runner.config.errors import ConfigError
from runner.config.fields import choice, problems_of
from runner.config.overrides import unknown_choice
from runner.config.plugins import load_plugins
from runner.config.resolve import read_conf
from runner.config.schema import BackboneConf, DatasetConf

DOWNLOADS = ("auto", "yes", "no")


@dataclass
class PrepareConf:
    """The keys of `prepare.py`; those that training has too mean the same.

    Attributes:
        dataset: `id` is empty where none is named. `root` is where the source lies, as `source_root` is; `shots` and
            `list_seed` choose among the lists of few-shot sets, which without them are all made.
        source_root: where the source lies; null: in its folder under the data root.
        suite: all its tasks; typed as `sweep=`, as in training.
        download: whether missing archives are fetched: "auto" up to 10 GB.
        build: whether a missing copy of source=tfds is built, which needs TensorFlow.
    """

    dataset: DatasetConf = field(default_factory=lambda: DatasetConf(id=""))
    backbone: BackboneConf = field(default_factory=BackboneConf)
    suite: str | None = None
    source: str = choice("raw", VTAB_SOURCES)
    source_root: str | None = None
    codec: str = choice("raw", CODECS)
    resize: str = choice("bicubic", RESIZES)
    download: str = choice("auto", DOWNLOADS)
    build: bool = False
    data_root: str | None = None
    plugins: list[str] = field(default_factory=list)

    renamed: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"shots": "dataset.shots", "list_seed": "dataset.list_seed", "size": "backbone.image_size"}
    )
    spelled: ClassVar[Mapping[str, str]] = MappingProxyType({"sweep": "suite"})


@dataclass(frozen=True)
class Preparation:
    """A task to make ready, or the status of all; paths and what else is optional are as JSON has them.

    Attributes:
        task: its id; None: the status of all is asked for.
        data_root: where the caches go.
        source: one of `VTAB_SOURCES`.
        source_root: where the source lies; None: in its folder under the data root.
        codec: what the images pass through first.
        resize: the interpolation.
        download: one of `DOWNLOADS`.
        build: whether a missing copy of source=tfds may be built.
        image_size: in pixels, of the evaluation images of few-shot sets.
        shots: images per class of few-shot lists; a set passes over those that it does not have.
        list_seeds: the seeds of these lists.
    """

    task: str | None
    data_root: str
    source: str
    source_root: str | None
    codec: str
    resize: str
    download: str
    build: bool
    image_size: int
    shots: tuple[int, ...] = SHOTS
    list_seeds: tuple[int, ...] = LIST_SEEDS


def read_preparations(raw: DictConfig, typed: Collection[str]) -> list[Preparation]:
    """What a composed config asks for, the tasks of its suite before its data set; one without a task for the status.

    Args:
        raw: what Hydra composed.
        typed: the keys of the command line; lists of few-shot sets are chosen by typed keys alone.

    Raises:
        ConfigError: with every problem of the keys, one a line.
        DataError: for a task that is unknown, or a place that is.
    """
    conf = read_conf(raw, PrepareConf)
    load_plugins(conf.plugins)
    problems, d = list(problems_of(conf)), conf.dataset
    shots = (d.shots,) if "dataset.shots" in typed and d.shots is not None else SHOTS
    seeds = (d.list_seed,) if "dataset.list_seed" in typed and d.list_seed is not None else LIST_SEEDS
    for key, values, allowed in (("dataset.shots", shots, SHOTS), ("dataset.list_seed", seeds, LIST_SEEDS)):
        problems += [f"{key}={v} is not one of {', '.join(map(str, allowed))}" for v in values if v not in allowed]
    if conf.suite is not None and conf.suite not in SUITES:
        problems.append(unknown_choice("sweep", conf.suite, list(SUITES)))
    if problems:
        raise ConfigError("\n".join(problems))
    ids = [*SUITES.get(conf.suite or "", ()), *([get_task(d.id).id] if d.id else [])]
    root = data_root_of(conf.data_root)
    how = (conf.source, _source_root(conf), conf.codec, conf.resize, conf.download, conf.build)
    tasks: list[str | None] = list(dict.fromkeys(ids)) or [None]
    return [Preparation(task, str(root), *how, conf.backbone.image_size, shots, seeds) for task in tasks]


def _source_root(conf: PrepareConf) -> str | None:
    for key, value in (("source_root", conf.source_root), ("dataset.root", conf.dataset.root)):
        if value is not None:
            return str(user_path(value, key))
    return None


def unique(preparations: list[Preparation]) -> list[Preparation]:
    """Each task once per source and treatment, with the lists that any of them asks for."""
    found: dict[Preparation, Preparation] = {}
    for one in preparations:
        key = replace(one, shots=(), list_seeds=())
        known = found.get(key, key)
        shots, seeds = {*known.shots, *one.shots}, {*known.list_seeds, *one.list_seeds}
        found[key] = replace(key, shots=tuple(sorted(shots)), list_seeds=tuple(sorted(seeds)))
    return list(found.values())


from_json = TypeAdapter(Preparation).validate_python
"""A preparation as it was before it went through JSON, if it did."""
