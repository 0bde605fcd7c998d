"""Hyper-parameters chosen on val200: every point of the grid is a training of its own, kept in <run>/grid/<point>."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.config import ConfigError
from runner.folder import read_json, write_json
from runner.grid import at_point, best, point_name, points
from runner.schema import TrainConf

log = logging.getLogger("glora")
FILES = ("train_train800.json", "weights.safetensors")  # the weights last: they say that the phase is finished


def choose(c: TrainConf, run: Path, train_point: Callable[[TrainConf, Path], dict[str, Any]]) -> TrainConf:
    """Train every point that is not finished, write grid.json, and leave the chosen point's training in `run`.

    Args:
        c: the config with the grid.
        run: its run folder, held by this process.
        train_point: trains a config in a folder; returns `val` (accuracies on val200 with the last epoch's weights by
            name, a supernet's of its fixed subnets) and `seconds`.

    Returns:
        The config at the chosen point.

    Raises:
        FloatingPointError: if every point diverged.
    """
    if not (run / "grid.json").exists():
        tried = [_try(c, point, run / "grid" / point_name(point), train_point) for point in points(c)]
        try:
            winner = best(tried)
        except ValueError:
            raise FloatingPointError(f"every point of the grid diverged: {tried[-1]['diverged']}") from None
        write_json(run / "grid.json", {"chosen": winner["point"], "points": tried})
    c = chosen(c, run)
    point = read_json(run / "grid.json")["chosen"]
    log.info("chosen on val200: %s", point_name(point))
    for name in FILES:
        if not (run / name).exists():
            shutil.copyfile(run / "grid" / point_name(point) / name, run / f"{name}.part")
            (run / f"{name}.part").replace(run / name)
    return c


def _try(
    c: TrainConf, point: dict[str, float], home: Path, train_point: Callable[[TrainConf, Path], dict[str, Any]]
) -> dict[str, Any]:
    """The record of one point, from its folder if it is finished."""
    file = home / "point.json"
    if file.exists():
        log.info("%s is finished, nothing to do", home)
        record: dict[str, Any] = read_json(file)
        return record
    log.info("grid point %s", point_name(point))
    try:
        found = train_point(at_point(c, point), home)
        record = {"point": point, "val_accuracy": sum(found["val"].values()) / len(found["val"]), **found}
    except FloatingPointError as error:
        # A rate that is too high for this task is an answer, not the end of the grid.
        log.warning("%s diverged and is not chosen: %s", point_name(point), error)
        record = {"point": point, "val_accuracy": None, "diverged": str(error)}
    write_json(file, record)
    return record


def chosen(c: TrainConf, run: Path) -> TrainConf:
    """The config at the point that was chosen; `c` itself without a grid.

    Raises:
        ConfigError: if the grid is not finished.
    """
    if c.hparams != "val_grid":
        return c
    if not (run / "grid.json").exists():
        raise ConfigError(f"{run} holds no finished grid; run train.py with the same words first")
    return at_point(c, read_json(run / "grid.json")["chosen"])
