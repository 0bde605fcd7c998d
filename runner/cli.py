"""What the scripts share on the command line: Hydra with our schema, clear errors, a log on the terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
from omegaconf import DictConfig

from data import DataError
from glora.backbones import WeightsError
from runner.config import ConfigError, TrainConf, read, register


def main(stage: Callable[[TrainConf], object]) -> None:
    """Compose the config from the command line and run `stage` for every job of the sweep."""
    register()
    logger = logging.getLogger("glora")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False

    @hydra.main(
        config_path=str(Path(__file__).resolve().parent.parent / "configs"), config_name="train", version_base="1.3"
    )
    def job(raw: DictConfig) -> None:
        try:
            stage(read(raw))
        except (ConfigError, DataError, WeightsError, FloatingPointError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)

    job()
