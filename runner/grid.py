"""The grid of `hparams=val_grid`: its axes, its points in order, the rule of choice, and a config at one point.

An axis is the rate (`lr`), `weight_decay`, `drop_path`, or a numeric option of the method.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from glora.methods import METHODS
from runner.schema import TrainConf

RECIPE_AXES = {"lr": "optimizer.lr", "weight_decay": "optimizer.weight_decay", "drop_path": "backbone.drop_path_rate"}
"""Axes that are no options of the method, and the words that set them."""


def is_typed(c: TrainConf, option: str, typed: Collection[str]) -> bool:
    """Whether the user gave this option, be it with its default value (`typed` holds the keys of the command line)."""
    default = METHODS[c.method.name].options()[option]
    return f"method.options.{option}" in typed or bool(c.method.options[option] != default)


def settle(c: TrainConf, typed: Collection[str], rate: float) -> list[str]:
    """Leave in `method.grid` the axes that this run searches, in place; returns the problems found.

    With `trainer.lr_factors` that is the rate alone, at those factors of the recipe's, and the axes that were typed.

    Args:
        c: the config before its open values are filled in, the method's options completed.
        typed: the keys of the command line.
        rate: the learning rate without a grid.
    """
    if c.protocol.name not in ("clean", "clean_1000"):
        return [f"hparams=val_grid chooses on val200, which protocol={c.protocol.name} trains on; use protocol=clean"]
    if c.trainer.lr_factors:
        axes = {k: v for k, v in c.method.grid.items() if f"method.grid.{k}" in typed}
        if "lr" in axes:
            c.trainer.lr_factors = []
        else:
            axes = {"lr": [float(f"{rate * f:.3g}") for f in c.trainer.lr_factors], **axes}
        c.method.grid = axes
    for axis, values in c.method.grid.items():
        if any(type(v) not in (int, float) or not math.isfinite(v) for v in values):
            return [f"method.grid.{axis}={values} must be numbers"]
    grid = c.method.grid = {k: list(dict.fromkeys(map(float, v))) for k, v in c.method.grid.items()}
    if not grid:
        return [f"method={c.method.name} has no grid; give one, as in +method.grid.lr=[1e-4,5e-4]"]
    return [problem for axis in grid for problem in _axis_problems(c, axis, typed)]


def _axis_problems(c: TrainConf, axis: str, typed: Collection[str]) -> list[str]:
    options, values, out = METHODS[c.method.name].options(), c.method.grid[axis], []
    allowed = [*RECIPE_AXES, *(k for k, v in options.items() if type(v) in (int, float))]
    if axis not in allowed:
        return [f"method.grid.{axis} is no axis for method={c.method.name}; allowed: {', '.join(allowed)}"]
    if not values:
        return [f"method.grid.{axis}=[] has no values; leave the axis out with ~method.grid.{axis}"]
    given = {
        "lr": c.optimizer.lr is not None,
        "weight_decay": c.optimizer.weight_decay is not None,
        "drop_path": c.backbone.drop_path_rate is not None,
    }
    if given[axis] if axis in given else is_typed(c, axis, typed):
        words, listed = RECIPE_AXES.get(axis, f"method.options.{axis}"), ",".join(f"{v:g}" for v in values)
        out.append(f"{words} is given, but hparams=val_grid chooses {axis} from [{listed}] on val200; leave it out, "
                   f"set the values with method.grid.{axis}=[...], or use hparams=global")  # fmt: skip
    if axis == "lr" and min(values) <= 0:
        out.append(f"method.grid.lr={values} must be positive")
    elif axis in RECIPE_AXES and min(values) < 0:
        out.append(f"method.grid.{axis}={values} must be at least 0")
    if axis in options and any(type(options[axis])(v) != v for v in values):
        out.append(f"method.grid.{axis}={values} must be whole numbers")
    return out


def points(c: TrainConf) -> list[dict[str, float]]:
    """Every point, the last axis varying fastest."""
    return [dict(zip(c.method.grid, values, strict=True)) for values in itertools.product(*c.method.grid.values())]


def point_name(point: dict[str, float]) -> str:
    """The folder of a point, such as "lr=0.0005-scale=10.0"."""
    return "-".join(f"{axis}={value}" for axis, value in point.items())


def at_point(c: TrainConf, point: dict[str, float]) -> TrainConf:
    """The config with the values of one point; its identity is still that of the whole grid."""
    kind = METHODS[c.method.name].options()
    options = {k: type(kind[k])(v) for k, v in point.items() if k in kind}
    rates = {k: point[k] for k in ("lr", "weight_decay") if k in point}
    drop_path = point.get("drop_path", c.backbone.drop_path_rate)
    return replace(
        c,
        method=replace(c.method, options={**c.method.options, **options}),
        optimizer=replace(c.optimizer, **rates),
        backbone=replace(c.backbone, drop_path_rate=drop_path),
    )


def best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record with the highest `val_accuracy`; ties to the smaller rate, then to the earlier point.

    Records without an accuracy (training diverged) are passed over. Raises ValueError if none has one.
    """
    return max(
        (t for t in tried if t["val_accuracy"] is not None),
        key=lambda t: (t["val_accuracy"], -t["point"].get("lr", 0.0)),
    )


def place(identity: dict[str, Any], axis: str) -> tuple[dict[str, Any], str]:
    """The part of a run's identity that holds the value of an axis, and its key there."""
    if axis in RECIPE_AXES:
        part, key = RECIPE_AXES[axis].split(".")
        return identity[part], key
    return identity["method"]["options"], axis


def spread(c: TrainConf, identity: dict[str, Any]) -> None:
    """Write the values of every axis where a run without a grid has its one value, in place."""
    for axis, values in c.method.grid.items():
        part, key = place(identity, axis)
        part[key] = values
