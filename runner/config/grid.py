"""The grid of `hparams=val_grid`: its axes, its points in order, and the rule of choice.

An axis is the learning rate (`lr`), `weight_decay`, `drop_path`, or a numeric option of the method.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.config.fields import LARGEST

Point = Mapping[str, float]

RECIPE_AXES = {"lr": "optimizer.lr", "weight_decay": "optimizer.weight_decay", "drop_path": "backbone.drop_path_rate"}
"""Axes that are no options of the method, and the keys that set them."""


@dataclass(frozen=True)
class Grid:
    """The values of every axis. `factors`: the learning rate's are these multiples of the recipe's."""

    axes: Mapping[str, Sequence[float]]
    factors: Sequence[float] = ()

    def points(self) -> list[dict[str, float]]:
        """Every point, the last axis varying fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]


def axes_of(
    declared: Mapping[str, list[Any]], factors: Sequence[float], lr: float, typed: Collection[str]
) -> tuple[dict[str, list[Any]], list[float]]:
    """The axes that a run searches, and the factors that count.

    With factors that is the learning rate alone, at those multiples of the recipe's, and the axes that were typed.

    Args:
        declared: the method's grid.
        factors: `trainer.lr_factors`.
        lr: the learning rate without a grid.
        typed: the keys of the command line.
    """
    if not factors:
        return dict(declared), []
    axes = {k: list(v) for k, v in declared.items() if f"method.grid.{k}" in typed}
    if "lr" in axes:
        return axes, []
    return {"lr": [float(f"{lr * f:.3g}") for f in factors], **axes}, list(factors)


def checked(
    method: str, axes: Mapping[str, Sequence[Any]], options: Mapping[str, Any]
) -> tuple[dict[str, list[float]], list[str]]:
    """The axes with distinct floats as values, and the problems found in them.

    Args:
        method: its name.
        axes: values by axis.
        options: the method's options with their defaults.
    """
    for axis, values in axes.items():
        if any(type(v) not in (int, float) or not abs(v) <= LARGEST for v in values):
            return {}, [f"method.grid.{axis}={values} must be numbers, of at most {LARGEST:g}"]
    clean = {k: list(dict.fromkeys(map(float, v))) for k, v in axes.items()}
    return clean, [
        problem for axis, values in clean.items() for problem in _axis_problems(method, axis, values, options)
    ]


def _axis_problems(method: str, axis: str, values: list[float], options: Mapping[str, Any]) -> Iterator[str]:
    allowed = [*RECIPE_AXES, *(k for k, v in options.items() if type(v) in (int, float))]
    if axis not in allowed:
        yield f"method.grid.{axis} is no axis for method={method}; allowed: {', '.join(allowed)}"
    elif not values:
        yield f"method.grid.{axis}=[] has no values; leave the axis out with ~method.grid.{axis}"
    elif axis == "lr" and min(values) <= 0:
        yield f"method.grid.lr={values} must be positive"
    elif axis in RECIPE_AXES and min(values) < 0:
        yield f"method.grid.{axis}={values} must be at least 0"
    elif axis in options and any(type(options[axis])(v) != v for v in values):
        yield f"method.grid.{axis}={values} must be whole numbers"


def point_name(point: Point) -> str:
    """The directory of a point, such as "lr=0.0005-scale=10.0"."""
    return "-".join(f"{axis}={value}" for axis, value in point.items())


def best(tried: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The record with the highest `val_accuracy`; ties to the smaller learning rate, then to the earlier point.

    Records without an accuracy (training diverged) are passed over.

    Raises:
        ValueError: if none has one.
    """
    return max(
        (t for t in tried if t["val_accuracy"] is not None),
        key=lambda t: (t["val_accuracy"], -t["point"].get("lr", 0.0)),
    )


def locate(identity: dict[str, Any], axis: str) -> tuple[dict[str, Any], str]:
    """The part of a run's identity that holds the value of an axis, and its key there."""
    if axis in RECIPE_AXES:
        part, key = RECIPE_AXES[axis].split(".")
        return identity[part], key
    return identity["method"]["options"], axis
