"""The pictures of a run: training curves, the search, the chosen options and parameters by layer type."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glora.search import pareto_front
from runner.report.figure import LINE_STYLES, PALETTE, new_figure, save, tidy

TENSORS = ("A", "B", "C", "D", "E")
LAYER_TYPES = ("qkv", "proj", "fc1", "fc2", "reduction")
SHOWN = {
    "accuracy": (100, "validation accuracy (%)"),
    "loss": (1, "validation cross-entropy (nats)"),
    "probability": (100, "validation: mean probability of the label (%)"),
}
"""What a search makes best: its factor and name on an axis."""


def plot_training(metrics: Sequence[Mapping[str, Any]], path: Path | str) -> Path:
    """Loss, learning rate and validation accuracy of fixed subnets by epoch, the first being 1 as in the log.

    Each entry has "epoch" (from 0) and any of "loss", "lr" and "val/<subnet>" (a fraction, drawn in percent); entries
    may lack some.

    Raises:
        ValueError: if there is nothing to draw.
    """
    keys = dict.fromkeys(key for entry in metrics for key in entry)
    subnets = [key for key in keys if key.startswith("val/")]
    panels = [([key], label) for key, label in (("loss", "training loss"), ("lr", "learning rate")) if key in keys]
    panels += [(subnets, "validation accuracy (%)")] if subnets else []
    if not panels:
        raise ValueError("no metrics to plot: entries need 'loss', 'lr' or 'val/<subnet>'")
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(4.2 * len(panels), 3.4)
    row = figure.subplots(1, len(panels), squeeze=False, sharex=True)[0]
    for axes, (drawn, label) in zip(row, panels, strict=True):
        for number, key in enumerate(drawn):
            points = [(e["epoch"] + 1, e[key]) for e in metrics if e.get(key) is not None]
            scale = 100 if key.startswith("val/") else 1
            axes.plot(
                [epoch for epoch, _ in points],
                [value * scale for _, value in points],
                color=PALETTE[number % len(PALETTE)],
                linestyle=LINE_STYLES[number % len(LINE_STYLES)],  # so that colour is not the only cue
                marker="o" if len(points) <= 20 else None,
                markersize=3.5,
                label=key.removeprefix("val/"),
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # no half epochs
        if drawn is subnets:
            axes.legend(title="subnet", fontsize=8, title_fontsize=8)
        tidy(axes)
    return save(figure, path)


def plot_search(
    candidates: Sequence[Mapping[str, Any]],
    winner: int,
    path: Path | str,
    title: str = "Search",
    objective: str = "accuracy",
) -> Path:
    """All candidates by parameters and what a search goes by, coloured by generation, with front and winner.

    Candidates have "params" (count), "generation" (from 0) and the `objective`: "accuracy" or "probability" (fraction),
    or "loss" (nats), then drawn downwards, so that better is always higher; `winner` is an index into them.

    Raises:
        ValueError: if there are none.
        IndexError: if `winner` is not one of them.
    """
    if not candidates:
        raise ValueError("no candidates to plot")
    if not 0 <= winner < len(candidates):
        raise IndexError(f"winner {winner} is not one of {len(candidates)} candidates")
    from matplotlib import colormaps
    from matplotlib.colors import BoundaryNorm
    from matplotlib.ticker import EngFormatter, MaxNLocator

    scale, unit = SHOWN[objective]
    points = [(c["params"], scale * c[objective]) for c in candidates]
    sizes, worths = zip(*points, strict=True)
    generations = [c["generation"] for c in candidates]
    low, high = min(generations), max(generations)
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    colours = colormaps["viridis"].resampled(high - low + 1)
    bounds = BoundaryNorm([low - 0.5 + step for step in range(high - low + 2)], colours.N) if high > low else None
    dots = axes.scatter(sizes, worths, c=generations, cmap=colours, norm=bounds, s=22, alpha=0.8,
                        edgecolors="white", linewidths=0.4, label="candidate")  # fmt: skip
    if high > low:
        bar = figure.colorbar(dots, label="generation")
        bar.locator = MaxNLocator(integer=True, nbins=8)
        bar.update_ticks()
        bar.minorticks_off()
    falling = objective == "loss"
    front = [points[i] for i in pareto_front([(x, -y if falling else y) for x, y in points])]
    # Continued to the right edge: a larger budget reaches at least the best accuracy so far.
    front.append((max(x for x, _ in points), front[-1][1]))
    axes.step(*zip(*front, strict=True), where="post", color=PALETTE[1], linewidth=1.5, label="Pareto front", zorder=2)
    best = f"loss {points[winner][1]:.3f}" if falling else f"{points[winner][1]:.1f}%"
    axes.scatter(*points[winner], marker="*", s=260, color=PALETTE[4], edgecolors="black", linewidths=0.9,
                 label=f"winner ({best}, {points[winner][0]:,} params)", zorder=4)  # fmt: skip
    axes.set_xlabel("subnet parameters")
    axes.set_ylabel(unit)
    if falling:
        axes.invert_yaxis()
    axes.set_title(title)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    # Below the axes: anywhere inside it may cover candidates.
    figure.legend(fontsize=8, loc="outside lower center", ncols=3, frameon=False)
    tidy(axes)
    return save(figure, path)


def plot_fronts(
    fronts: Mapping[str, Sequence[Sequence[tuple[int, float]]]], path: Path | str, objective: str = "accuracy"
) -> Path:
    """The Pareto fronts of several searches, one step line per seed.

    Points are (params, worth): a fraction, or minus the loss in nats, as the `objective` says.
    """
    from matplotlib.ticker import EngFormatter

    scale, unit = SHOWN[objective]
    scale = -scale if objective == "loss" else scale
    figure = new_figure(6.4, 4.6)
    axes = figure.subplots()
    for number, (name, runs) in enumerate(fronts.items()):
        for run, front in enumerate(runs):
            axes.step(
                [params for params, _ in front],
                [scale * worth for _, worth in front],
                where="post",
                color=PALETTE[number % len(PALETTE)],
                linestyle=LINE_STYLES[number % len(LINE_STYLES)],
                marker="o" if len(front) <= 20 else None,
                markersize=3,
                alpha=0.8,
                label=name if run == 0 else None,
            )
    axes.set_xlabel("subnet parameters")
    axes.set_ylabel(unit)
    if objective == "loss":
        axes.invert_yaxis()
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.legend(fontsize=8)
    tidy(axes)
    return save(figure, path)


def _option_order(option: str) -> tuple[int, int]:
    """none, scalar, vector, then LoRA by rank, or widths in order; anything unknown last."""
    if option.removeprefix("lora_").isdigit():
        return 3, int(option.removeprefix("lora_"))
    return {"none": 0, "scalar": 1, "vector": 2}.get(option, 4), 0


def short_layer(name: str) -> str:
    """ "blocks.3.attn.qkv" as "3.qkv" and "layers.2.blocks.0.mlp.fc1" as "2.0.fc1"."""
    tokens = name.split(".")
    return ".".join([token for token in tokens[:-1] if token.isdigit()] + tokens[-1:])


def plot_options(layers: Sequence[str], options: Sequence[Mapping[str, str]], path: Path | str) -> Path:
    """The option of each support tensor (rows A to E) in every layer (columns), as in the paper's Figure 4.

    `options[i]` gives tensor to option name of `layers[i]`; a tensor it lacks stays white. Cells carry a letter or
    the LoRA rank besides the colour. NOAH's rows are its modules, its options widths.

    Raises:
        ValueError: if there are no layers or the lengths differ.
    """
    if not layers or len(layers) != len(options):
        raise ValueError(f"{len(layers)} layers and {len(options)} option dicts: need as many, and at least one")
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    rows = list(dict.fromkeys(row for entry in options for row in entry))
    rows = list(TENSORS) if set(rows) <= set(TENSORS) else rows
    used = sorted({name for entry in options for name in entry.values()}, key=lambda n: (_option_order(n), n))
    fixed = {"none": "#E8E8E8", "scalar": "#F0E442", "vector": "#56B4E9"}
    free = iter(("#E69F00", "#D55E00", "#882255", "#332288", "#117733", "#000000") * len(used))
    colours = {name: fixed.get(name) or next(free) for name in used}
    cells = [[used.index(entry[t]) if t in entry else math.nan for entry in options] for t in rows]
    figure = new_figure(max(5.0, 1.6 + 0.27 * len(layers)), 3.2)
    axes = figure.subplots()
    axes.imshow(cells, cmap=ListedColormap([colours[n] for n in used]), vmin=-0.5, vmax=len(used) - 0.5, aspect="auto")
    for column, entry in enumerate(options):
        for row, tensor in enumerate(rows):
            name = entry.get(tensor, "none")
            text = name.removeprefix("lora_") if name[-1].isdigit() else "" if name == "none" else name[0]
            dark = colours.get(name) in ("#D55E00", "#882255", "#332288", "#117733", "#000000")
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xticks(range(len(layers)), [short_layer(name) for name in layers], rotation=90, fontsize=7)
    # White lines between the cells, on the minor ticks half a cell away from the labels.
    axes.set_xticks([x - 0.5 for x in range(1, len(layers))], minor=True)
    axes.set_yticks([y - 0.5 for y in range(1, len(rows))], minor=True)
    axes.grid(which="minor", color="white", linewidth=1)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("support tensor" if rows == list(TENSORS) else "module")
    axes.set_xlabel("layer")
    figure.legend(handles=[Patch(color=colours[n], label=n.replace("_", " ")) for n in used], ncols=len(used),
                  loc="outside upper center", frameon=False, fontsize=9)  # fmt: skip
    return save(figure, path)


def params_by_type(names: Sequence[str], counts: Sequence[int]) -> dict[str, int]:
    """Parameters summed by the last token of the layer names: qkv, proj, fc1, fc2, reduction, then other types."""
    totals: dict[str, int] = {}
    for name, count in zip(names, counts, strict=True):
        kind = name.rsplit(".", 1)[-1]
        totals[kind] = totals.get(kind, 0) + count
    order = [kind for kind in LAYER_TYPES if kind in totals]
    return {kind: totals[kind] for kind in [*order, *(kind for kind in totals if kind not in order)]}


def plot_params_by_type(names: Sequence[str], counts: Sequence[int], path: Path | str) -> Path:
    """Parameters per layer type as bars with count and share, as in the paper's Figure 3.

    Raises:
        ValueError: if there are no layers or `names` and `counts` differ in length.
    """
    totals = params_by_type(names, counts)
    if not totals:
        raise ValueError("no layers to plot")
    from matplotlib.ticker import EngFormatter

    figure = new_figure(max(4.8, 1.2 + 1.1 * len(totals)), 3.6)
    axes = figure.subplots()
    total = sum(totals.values()) or 1
    bars = axes.bar(list(totals), list(totals.values()), color=PALETTE[0], width=0.65)
    labels = [f"{count:,}\n{100 * count / total:.0f}%" for count in totals.values()]
    axes.bar_label(bars, labels, padding=3, fontsize=9)
    axes.set_ylim(0, 1.2 * max(1, *totals.values()))
    axes.set_xlabel("layer type")
    axes.set_ylabel("subnet parameters")
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    tidy(axes)
    axes.grid(visible=False, axis="x")
    return save(figure, path)
