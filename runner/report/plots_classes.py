"""What a run gets wrong: the confusion matrix of its test images and the accuracy of each class."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from runner.report.figure import PALETTE, new_figure, save, tidy

LABELLED = 20
"""Up to so many classes each has its label on an axis and its number in a cell."""


def plot_confusion(counts: Tensor, path: Path | str) -> Path:
    """The share of each class's images (row) that is taken for each class (column), from (C, C) counts."""
    classes = len(counts)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = min(9.0, max(4.0, 1.6 + 0.38 * classes))
    figure = new_figure(side + 1.4, side)  # the colour bar beside it
    axes = figure.subplots()
    drawn = axes.imshow(100 * share.numpy(), cmap="Blues", vmin=0, vmax=100)
    if classes <= LABELLED:
        for row in range(classes):
            for column in range(classes):
                value = float(share[row, column])
                if value >= 0.005:
                    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                              color="white" if value > 0.6 else "black")  # fmt: skip
        axes.set_xticks(range(classes))
        axes.set_yticks(range(classes))
    axes.set_xlabel("predicted class")
    axes.set_ylabel("class")
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="images of the class (%)")
    return save(figure, path)


def plot_classes(counts: Tensor, path: Path | str) -> Path:
    """The accuracy of each class that has test images, worst first, from (C, C) counts."""
    present = [k for k in range(len(counts)) if int(counts[k].sum())]
    accuracy = {k: 100 * float(counts[k, k] / counts[k].sum()) for k in present}
    order = sorted(present, key=lambda k: accuracy[k])
    figure = new_figure(min(12.0, max(4.8, 1.2 + 0.3 * len(order))), 3.2)
    axes = figure.subplots()
    axes.bar(range(len(order)), [accuracy[k] for k in order], color=PALETTE[0], width=0.8)
    if len(order) <= 2 * LABELLED:
        axes.set_xticks(range(len(order)), [str(k) for k in order], fontsize=8)
    else:
        axes.set_xticks([])
    axes.set_ylim(0, 100)
    axes.set_xlabel("class, worst first")
    axes.set_ylabel("test accuracy (%)")
    tidy(axes)
    axes.grid(visible=False, axis="x")
    return save(figure, path)
