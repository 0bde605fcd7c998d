"""`hparams=val_grid`: every point of the grid is a training of its own, kept in <run>/grid/<point>; val200 chooses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.files import read_bytes, write_bytes
from runner.config.errors import ConfigError
from runner.config.grid import Point, best, point_name
from runner.config.protocol import WEIGHTS
from runner.config.run import Run
from runner.rundir.files import write_json
from runner.rundir.records import Grid, Tried, read
from runner.rundir.weights import has_weights

log = logging.getLogger(f"glora.{__name__}")
FILES = ("train_train800.json", WEIGHTS)  # the weights last: they say that the phase is finished


def choose(run: Run, train_point: Callable[[Run, Path], dict[str, Any]]) -> Run:
    """Train every point that is not finished, write grid.json, and leave the chosen point's training in the directory.

    Args:
        run: with a grid, its directory held by this process.
        train_point: trains a run in a directory; returns `val` (accuracies on val200 with the last epoch's weights by
            name, a supernet's of its fixed subnets) and `seconds`.

    Returns:
        The run at the chosen point.

    Raises:
        FloatingPointError: if every point diverged.
    """
    if run.grid is None:
        return run
    file = run.directory / "grid.json"
    if not file.exists():
        tried = [_try(run, p, run.directory / "grid" / point_name(p), train_point) for p in run.grid.points()]
        try:
            winner = best(tried)
        except ValueError:
            raise FloatingPointError(f"every point of the grid diverged: {tried[-1]['diverged']}") from None
        write_json(file, {"chosen": winner["point"], "points": tried})
    point = read_grid(run).chosen
    log.info("chosen on val200: %s", point_name(point))
    for left in (run.directory / "grid").glob("*/resume_*"):  # of points that diverged
        left.unlink(missing_ok=True)
    made = run.directory / "grid" / point_name(point)
    lacking = [name for name in FILES if not (run.directory / name).exists()]
    if lacking and not has_weights(made / WEIGHTS):  # somebody deleted them
        train_point(run.at_point(point), made)
    for name in lacking:
        write_bytes(run.directory / name, read_bytes(made / name))
    return run.at_point(point)


def _try(run: Run, point: Point, directory: Path, train_point: Callable[[Run, Path], dict[str, Any]]) -> dict[str, Any]:
    """The record of one point, from its directory if it is finished."""
    file = directory / "point.json"
    if file.exists():
        log.info("%s is finished, nothing to do", directory)
        found = read(file, Tried)
        if found.point != point:
            raise ConfigError(f"{file} has point={found.point}, not {point}; {Tried.remedy}")
        return found.model_dump(exclude_unset=True)
    log.info("grid point %s", point_name(point))
    try:
        made = train_point(run.at_point(point), directory)
        record = {"point": point, "val_accuracy": sum(made["val"].values()) / len(made["val"]), **made}
    except FloatingPointError as error:
        # A learning rate that is too high for this task is an answer, not the end of the grid.
        log.warning("%s diverged and is not chosen: %s", point_name(point), error)
        record = {"point": point, "val_accuracy": None, "diverged": str(error)}
    write_json(file, record)
    return record


def chosen(run: Run) -> Run:
    """The run at the point that was chosen; `run` itself without a grid.

    Raises:
        ConfigError: if the grid is not finished.
    """
    if run.grid is None:
        return run
    file = run.directory / "grid.json"
    if not file.exists():
        raise ConfigError(f"{run.directory} holds no finished grid; run train.py with the same overrides first")
    return run.at_point(read_grid(run).chosen)


def read_grid(run: Run) -> Grid:
    """The finished grid of the run. Raises ConfigError if the file is damaged, or of another grid."""
    file, points = run.directory / "grid.json", run.grid.points() if run.grid is not None else []
    found = read(file, Grid)
    if found.chosen not in points:
        raise ConfigError(f"{file} has chosen={found.chosen} (no point of this run's grid); {Grid.remedy}")
    return found
