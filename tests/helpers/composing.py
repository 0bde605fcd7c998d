"""Overrides to a `Run`, as the scripts do it, without a process."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from runner.config import schema
from runner.config.resolve import resolve, typed_keys
from runner.config.run import Run
from runner.config.sweeps import register_resolvers
from tests.helpers import ROOT

CONFIGS = ROOT / "configs"


def jobs(*overrides: str, config: str = "train", keys: type = schema.TrainConf) -> list[list[str]]:
    """The overrides of every job that Hydra's own sweeper makes of a command line."""
    parser = OverridesParser.create()
    plain = [o for o in overrides if not parser.parse_override(o).is_sweep_override()]
    params = composed(*plain, config=config, keys=keys, hydra=True).hydra.sweeper.params or {}
    words = [f"{key}={value}" for key, value in params.items()] + list(overrides)
    made: list[list[str]] = BasicSweeper.split_arguments(parser.parse_overrides(words), None)[0]
    return made


def composed(*overrides: str, config: str = "train", keys: type = schema.TrainConf, hydra: bool = False) -> DictConfig:
    """What Hydra composes of the overrides."""
    schema.register(keys, config)
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(config, overrides=list(overrides), return_hydra_config=hydra)


def resolved(*overrides: str) -> Run:
    """The run that the overrides name."""
    return resolve(composed(*overrides), typed_keys(list(overrides)))
