"""The few-shot curves in the shape of the paper's Figure 2: a panel per data set, and their average."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data import SHOTS
from runner.report.figure import PALETTE, new_figure, save, tidy
from runner.report.published_transfer import FEW_SHOT, FEW_SHOT_SETS

Curves = Mapping[str, Mapping[str, Mapping[int, list[float]]]]
"""Method to set to shots to accuracies (fractions) over list and training seeds."""


def _average(sets: Mapping[str, Mapping[int, list[float]]]) -> dict[int, float]:
    """Mean over the five sets of the mean over seeds, in percent, for the shots that every set has."""
    return {
        shots: statistics.fmean(100 * statistics.fmean(sets[s][shots]) for s in FEW_SHOT_SETS)
        for shots in SHOTS
        if all(sets.get(s, {}).get(shots) for s in FEW_SHOT_SETS)
    }


def plot_few_shot(curves: Curves, path: Path | str) -> Path:
    """Accuracy against shots: ours solid with the sample sd over seeds, published dashed (ViT-B/16).

    Raises:
        ValueError: when there is nothing to draw.
    """
    if not curves:
        raise ValueError("no few-shot results to plot")
    figure = new_figure(11, 6.4)
    panels = figure.subplots(2, 3).ravel()
    titles = [*FEW_SHOT_SETS.values(), "Average"]
    for panel, title in zip(panels, titles, strict=True):
        _published(panel, titles.index(title))
        panel.set_title(title, fontsize=10)
        panel.set_xscale("log", base=2)
        panel.set_xticks(SHOTS, [str(s) for s in SHOTS])
        panel.set_xlabel("images per class")
        panel.set_ylabel("test accuracy (%)")
        tidy(panel)
    for number, (method, sets) in enumerate(curves.items()):
        style = {"color": PALETTE[number % len(PALETTE)], "marker": "o", "markersize": 4, "capsize": 2}
        for name, panel in zip(FEW_SHOT_SETS, panels, strict=False):
            points = sorted(sets.get(name, {}).items())
            if points:
                means = [100 * statistics.fmean(v) for _, v in points]
                spread = [100 * statistics.stdev(v) if len(v) > 1 else 0.0 for _, v in points]
                panel.errorbar([s for s, _ in points], means, spread, label=method, **style)
        average = _average(sets)
        if average:
            panels[-1].errorbar(list(average), list(average.values()), label=method, **style)
    handles: dict[str, Any] = {}
    for panel in panels:
        handles |= {label: h for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, fontsize=8)
    return save(figure, path)


def _published(panel: Any, column: int) -> None:
    """The paper's lines: a set's column, or behind the last one the average of all."""
    for number, (method, by_shots) in enumerate(FEW_SHOT.items()):
        values = [row[column] if column < len(row) else statistics.fmean(row) for row in by_shots.values()]
        grey = str(0.25 + 0.13 * number)
        style = ("--", ":", "-.", (0, (5, 1)), (0, (1, 1)))[number]
        panel.plot(list(by_shots), values, color=grey, linestyle=style, linewidth=1, label=f"{method} (published)")
