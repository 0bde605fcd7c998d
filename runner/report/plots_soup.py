"""The gates of a soup as a picture: how much of every part of equation 10 each layer has."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runner.report.figure import new_figure, save
from runner.report.plots import short_layer

Gates = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Layer to tensor to gates, as `SearchSpace.gates` gives them."""


def rows_of(gates: Gates) -> tuple[list[str], list[list[float]]]:
    """Names of the parts ("A ranks", "A vector", ...) and their gates by layer; of several columns the mean gate."""
    first = next(iter(gates.values()))
    parts = [(tensor, kind) for tensor, kinds in first.items() for kind in kinds]

    def gate(value: float | Sequence[float]) -> float:
        return float(value) if isinstance(value, (int, float)) else statistics.fmean(value)

    return [f"{t} {k}" for t, k in parts], [[gate(layer[t][k]) for layer in gates.values()] for t, k in parts]


def plot_gates(gates: Gates, path: Path | str) -> Path:
    """A cell per part (rows) and layer (columns): light where its gate is 0, dark where it is 1.

    Raises:
        ValueError: if there are no layers.
    """
    if not gates:
        raise ValueError("no layers, no gates to draw")
    names, cells = rows_of(gates)
    figure = new_figure(max(5.0, 2.2 + 0.27 * len(gates)), 1.2 + 0.27 * len(names))
    axes = figure.subplots()
    image = axes.imshow(cells, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xticks(range(len(gates)), [short_layer(name) for name in gates], rotation=90, fontsize=7)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("layer")
    figure.colorbar(image, label="gate (of ranks: the mean over columns)")
    return save(figure, path)
