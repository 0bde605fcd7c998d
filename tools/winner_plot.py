"""The study's picture: accuracy against parameters, a named point per row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runner.report.figure import new_figure, save, tidy
from tools.winner_forms import OTHERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Point(NamedTuple):
    """Parameters, average accuracy, and its sample sd over seeds where there are several; fractions."""

    params: float
    accuracy: float
    sd: float | None = None


def plot(points: Mapping[str, Point], path: Path) -> Path:
    """Average accuracy against parameters, a named point per form with a bar of one sd; hollow: what is no GLoRA."""
    from matplotlib.ticker import EngFormatter

    figure = new_figure(7.2, 7.2)
    axes = figure.subplots()
    for name, (params, accuracy, sd) in points.items():
        color, face = ("C1", "white") if name in OTHERS else ("C0", "C0")
        if sd is not None:
            axes.errorbar([params], [100 * accuracy], [100 * sd], ecolor=color, elinewidth=0.8, alpha=0.6, fmt="none")
        axes.scatter([params], [100 * accuracy], s=40, facecolors=face, edgecolors=color, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("parameters without head, mean over runs")
    axes.set_ylabel("test accuracy, average of groups (%); bar: sd over seeds")
    tidy(axes)
    label(axes, {name: (point.params, 100 * point.accuracy) for name, point in points.items()})
    return save(figure, path)


def label(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Names beside points, each on the first side on which it covers no name or point that is there."""
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # only then do the axes lie where they will be
    at = axes.transData.transform
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in map(at, points.values())]
    for name, point in points.items():
        sides = [("left", 6, 4), ("left", 6, -10), ("right", -6, 4), ("right", -6, -10), ("center", 0, 8),
                 ("center", 0, -14)]  # fmt: skip
        for ha, dx, dy in sides:
            text = axes.annotate(name, point, textcoords="offset points", xytext=(dx, dy), ha=ha, fontsize=8)
            box = text.get_window_extent()
            if box.count_overlaps(taken) == 0 and axes.bbox.x0 < box.x0 and box.x1 < figure.bbox.x1:
                break
            text.remove()
        else:
            text = axes.annotate(name, point, textcoords="offset points", xytext=(6, 4), fontsize=8)
        taken.append(text.get_window_extent())
