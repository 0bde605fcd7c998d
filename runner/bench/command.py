"""The parts of `benchmark.py`: their keys, and what each measures and prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
from omegaconf import DictConfig
from timm.models.vision_transformer import VisionTransformer

from data import user_path
from glora import Supernet
from glora.methods import ordered_methods
from glora.options import check_ranks
from runner.bench.data import data_lines, measure_data
from runner.bench.growth import growth_lines, measure_growth, plot_growth
from runner.bench.inference import inference_table, measure_inference, undefined
from runner.bench.model import measure_search, measure_train
from runner.bench.profile import measure_profile
from runner.bench.setting import MODELS, Setting, lines
from runner.config.compute import PRECISIONS, devices
from runner.config.errors import ConfigError
from runner.config.fields import choice, number, problems_of
from runner.config.resolve import read_conf
from runner.report.figure import attempt
from runner.report.render import to_rich, write_all
from runner.rundir.files import write_json

CONFIGS = Path(__file__).resolve().parent
"""Where `benchmark.yaml` lies: apart from configs/, whose groups have names that are plain keys here."""


@dataclass
class BenchConf:
    """What every part takes: how often all is timed, and the file that keeps the record."""

    repeats: int = number(5, low=1)
    json: str | None = None


@dataclass
class DataBenchConf(BenchConf):
    """The data path: how many images, of HEIGHTxWIDTH pixels."""

    images: int = number(1000, low=136)
    size: str = "375x500"


@dataclass
class BackboneBenchConf(BenchConf):
    """A backbone, of `MODELS` or timm's, and what computes it."""

    backbone: str = "vit_micro"
    device: str = "cpu"
    precision: str = choice("fp32", tuple(PRECISIONS))


@dataclass
class ModelBenchConf(BackboneBenchConf):
    """A supernet on it."""

    ranks: list[int] = field(default_factory=lambda: [8, 4])
    batch: int = number(64, low=1)


@dataclass
class InferenceBenchConf(BackboneBenchConf):
    """Methods on it, none standing for all; `tables` is a folder for the table as Markdown, CSV and LaTeX."""

    methods: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=lambda: [1, 4, 16])
    tables: str | None = None


@dataclass
class GrowthBenchConf(ModelBenchConf):
    """A ViT whose number of blocks grows; `plot` is the file of the figure."""

    plot: str | None = None


COMMANDS: dict[str, type[BenchConf]] = {
    "data": DataBenchConf,
    "train": ModelBenchConf,
    "search": ModelBenchConf,
    "profile": ModelBenchConf,
    "growth": GrowthBenchConf,
    "inference": InferenceBenchConf,
}
MEASURES: dict[str, Callable[[Setting, int], dict[str, Any]]] = {
    "train": measure_train,
    "search": measure_search,
    "profile": measure_profile,
    "growth": measure_growth,
}


def read_bench(raw: DictConfig, command: str) -> BenchConf:
    """The checked keys of a part.

    Raises:
        ConfigError: with every problem, one a line.
        DataError: for a path in the home directory of nobody.
    """
    conf = read_conf(raw, COMMANDS[command])
    problems = list(problems_of(conf))
    if isinstance(conf, DataBenchConf) and not _sides(conf.size):
        problems.append(f"size={conf.size} must be HEIGHTxWIDTH, at least 32x32")
    if isinstance(conf, BackboneBenchConf):
        problems += _backbone_problems(conf)
    if not problems and isinstance(conf, ModelBenchConf):
        problems += _model_problems(conf)
    if not problems and isinstance(conf, InferenceBenchConf):
        problems += _inference_problems(conf)
    if problems:
        raise ConfigError("\n".join(problems))
    conf.json = None if conf.json is None else str(user_path(conf.json, "json"))
    if isinstance(conf, GrowthBenchConf) and conf.plot is not None:
        conf.plot = str(user_path(conf.plot, "plot"))
    if isinstance(conf, InferenceBenchConf) and conf.tables is not None:
        conf.tables = str(user_path(conf.tables, "tables"))
    return conf


def _sides(size: str) -> tuple[int, int] | None:
    height, _, width = size.partition("x")
    if height.isdecimal() and width.isdecimal() and min(int(height), int(width)) >= 32:
        return int(height), int(width)
    return None


def _backbone_problems(conf: BackboneBenchConf) -> list[str]:
    known = [name for name in devices() if name != "auto"]
    problems = [] if conf.device in known else [f"device={conf.device} is not one of {', '.join(known)}"]
    if conf.backbone not in MODELS and not timm.is_model(conf.backbone):
        problems.append(f"backbone={conf.backbone} is not one of {', '.join(MODELS)} or a name of timm's")
    if isinstance(conf, ModelBenchConf):
        try:
            check_ranks(conf.ranks)
        except ValueError as error:
            problems.append(f"ranks={conf.ranks}: {error}")
    return problems


def _model_problems(conf: ModelBenchConf) -> list[str]:
    model = _setting(conf).model()
    if isinstance(conf, GrowthBenchConf) and not isinstance(model, VisionTransformer):
        return [f"backbone={conf.backbone} is not a ViT, whose number of blocks growth varies"]
    try:
        Supernet(model, conf.ranks)
    except ValueError as error:
        return [f"backbone={conf.backbone}: {error}"]
    return []


def _inference_problems(conf: InferenceBenchConf) -> list[str]:
    allowed = [m.name for m in ordered_methods()]
    problems = [f"methods: {name} is not one of {', '.join(allowed)}" for name in conf.methods if name not in allowed]
    if not conf.batches or min(conf.batches) < 1:
        problems.append(f"batches={conf.batches} must be numbers of images, at least 1")
    return problems or list(undefined(conf.methods, _setting(conf)).values())


def _setting(conf: BackboneBenchConf) -> Setting:
    setting = Setting(conf.backbone, device=conf.device, precision=conf.precision)
    return replace(setting, ranks=tuple(conf.ranks), batch=conf.batch) if isinstance(conf, ModelBenchConf) else setting


def measure(command: str, conf: BenchConf) -> None:
    """Measure one part, print its table, and keep the record where `json` says."""
    if isinstance(conf, DataBenchConf):
        height, width = _sides(conf.size) or (0, 0)
        found = measure_data(conf.images, height, width, conf.repeats)
        table = data_lines(found)
    elif isinstance(conf, ModelBenchConf):
        found = MEASURES[command](_setting(conf), conf.repeats)
        table = growth_lines(found) if isinstance(conf, GrowthBenchConf) else lines(found)
    elif isinstance(conf, InferenceBenchConf):
        found = measure_inference(_setting(conf), conf.methods, conf.batches, conf.repeats)
        shown = inference_table(found)
        to_rich(shown)
        table = [] if conf.tables is None else [f"written: {p}" for p in write_all([shown], Path(conf.tables))]
    if isinstance(conf, GrowthBenchConf) and conf.plot is not None:
        attempt(plot_growth, Path(conf.plot), found)
    print(*table, sep="\n", end="\n" if table else "")
    if conf.json is not None:
        write_json(Path(conf.json), found)
