"""How cost grows: a step and a candidate with images, rank and layers, and a generation of a search with population."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glora import EvolutionSearch, MergedEvaluator, SearchSpace, Subnet
from glora.evaluation import score
from runner.bench.model import Step
from runner.bench.setting import Setting, in_turn, record
from runner.config.compute import PRECISIONS
from runner.report.figure import LINE_STYLES, PALETTE, new_figure, save, tidy

SIZES: dict[str, tuple[int, ...]] = {
    "images": (16, 32, 64),
    "rank": (2, 8, 32),
    "layers": (3, 6, 12),
    "population": (10, 20, 40),
}
"""Of each axis; "layers" counts the blocks of a ViT, four adapted layers each."""

FEW = 8
"""Images per candidate of a timed generation."""

EXPECTED = {"images": "proportional", "rank": "about flat", "layers": "proportional", "population": "proportional"}


def _searched(setting: Setting, **changes: Any) -> tuple[SearchSpace, Callable[[Subnet], float]]:
    """The space of a supernet and what a candidate costs: merge, and evaluation on the setting's batch of images."""
    supernet = setting.supernet(**changes)
    evaluator, images = MergedEvaluator(supernet), [setting.images(setting.batch)]
    labels = torch.zeros(setting.batch, dtype=torch.long, device=setting.device)
    precision = PRECISIONS[setting.precision]
    return supernet.space, lambda subnet: score(evaluator.write(subnet), images, labels, precision)


def _candidate(setting: Setting, **changes: Any) -> Callable[[int], object]:
    """Merge and evaluate one subnet."""
    space, fitness = _searched(setting, **changes)
    return lambda number: fitness(space.sample(random.Random(number)))


def _generation(setting: Setting, population: int) -> Callable[[int], object]:
    """One generation of an evolution with candidates on a few images each."""
    space, fitness = _searched(replace(setting, batch=FEW))
    return lambda number: EvolutionSearch(space, fitness, seed=number, generations=1, population=population).step()


def _work(setting: Setting) -> dict[tuple[str, str, int], Callable[[int], object]]:
    """Everything to time, by axis, what it is and size."""
    found: dict[tuple[str, str, int], Callable[[int], object]] = {}
    for axis in ("images", "rank", "layers"):
        for size in SIZES[axis]:
            here = replace(setting, batch=size) if axis == "images" else setting
            here = replace(here, ranks=(size,)) if axis == "rank" else here
            changes = {"depth": size} if axis == "layers" else {}
            found[axis, "training step", size] = Step(here, here.form, here.precision, **changes)
            found[axis, "candidate", size] = _candidate(here, **changes)
    for size in SIZES["population"]:
        found["population", "generation", size] = _generation(setting, size)
    return found


def measure_growth(setting: Setting, repeats: int) -> dict[str, Any]:
    """Seconds of everything in turn; `growth` holds rows of axis, what, size and seconds, medians over the repeats.

    The backbone must be a ViT, whose number of blocks can be set.
    """
    work = {" ".join(map(str, key)): (key, call) for key, call in _work(setting).items()}
    times = in_turn({name: call for name, (_, call) in work.items()}, repeats, calls=3)
    rows = [
        {"axis": axis, "what": what, "size": size, "seconds": statistics.median(times[name])}
        for name, ((axis, what, size), _) in work.items()
    ]
    return record("growth", setting, repeats, times, next(iter(times))) | {"growth": rows}


def curves(found: dict[str, Any]) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By axis and what: (size, seconds relative to the smallest size)."""
    out: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in found["growth"]:
        out.setdefault(row["axis"], {}).setdefault(row["what"], []).append((row["size"], row["seconds"]))
    return {a: {w: [(s, t / c[0][1]) for s, t in c] for w, c in axis.items()} for a, axis in out.items()}


def growth_lines(found: dict[str, Any]) -> list[str]:
    """The table as Markdown lines: times the cost at the smallest size."""
    out = ["| with | sizes | of | times the cost at the smallest | expected |", "| --- | --- | --- | ---: | --- |"]
    for axis, by_what in curves(found).items():
        for what, points in by_what.items():
            sizes, costs = " / ".join(f"{s}" for s, _ in points), " / ".join(f"{r:.2f}" for _, r in points)
            out.append(f"| {axis} | {sizes} | {what} | {costs} | {EXPECTED[axis]} |")
    return out


def plot_growth(found: dict[str, Any], path: Path) -> Path:
    """One panel per axis, both scales logarithmic, with the line of proportional growth."""
    axes_of = curves(found)
    figure = new_figure(3.4 * len(axes_of), 3.4)
    for panel, (axis, by_what) in zip(figure.subplots(1, len(axes_of)), axes_of.items(), strict=True):
        sizes = SIZES[axis]
        panel.plot(sizes, [s / sizes[0] for s in sizes], color="0.6", linestyle=":", label="proportional")
        for number, (what, points) in enumerate(by_what.items()):
            style = {"color": PALETTE[number], "linestyle": LINE_STYLES[number], "marker": "o"}
            panel.plot([s for s, _ in points], [r for _, r in points], label=what, **style)
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set_xticks(sizes, [str(s) for s in sizes])
        ticks = [1, 2, 4, 8, 16][: 1 + max(2, (sizes[-1] // sizes[0]).bit_length() - 1)]
        panel.set_yticks(ticks, [str(t) for t in ticks])
        panel.set_xlabel("blocks" if axis == "layers" else axis)
        panel.set_ylabel("times the cost at the smallest")
        panel.legend(frameon=False, fontsize=8)
        tidy(panel)
    return save(figure, path)
