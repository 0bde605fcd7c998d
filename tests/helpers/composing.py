"""Overrides to a `Run`, as the scripts do it, without a process."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from runner.config import schema
from runner.config.resolve import resolve, typed_keys
from runner.config.run import Run
from runner.config.sweeps import register_resolvers
from tests.helpers import ROOT

CONFIGS = ROOT / "configs"


def composed(*overrides: str, config: str = "train", keys: type = schema.TrainConf) -> DictConfig:
    """What Hydra composes of the overrides."""
    schema.register(keys, config)
    register_resolvers()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose(config, overrides=list(overrides))


def resolved(*overrides: str) -> Run:
    """The run that the overrides name."""
    return resolve(composed(*overrides), typed_keys(list(overrides)))
