"""Inference of every method beside the untouched model, as in the paper's Table 3."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from glora.methods import METHODS, Method, Searched, ordered_methods
from glora.product import in_precision
from runner.bench.setting import Setting, flops, in_turn, machine, pairs, spread, synchronize
from runner.config.compute import PRECISIONS
from runner.report.tables import MISSING, Table, count

PLAIN = "untouched model"
IMAGES = 16
"""Images, at least, behind one time: that many calls of batch 1, each of them timed."""


def undefined(names: Sequence[str], setting: Setting) -> dict[str, str]:
    """Those of the methods that are not defined on the backbone, with the reasons."""
    found = {}
    for name in names:
        try:
            METHODS[name](setting.model())
        except ValueError as error:
            found[name] = str(error)
    return found


def deployed(method: Method) -> nn.Module:
    """The model as it is used: frozen, in eval mode, merged where that can be; of a supernet its largest subnet."""
    if isinstance(method, Searched):
        method.set(method.space.largest)
    return (method.merge() if method.mergeable else method.model).eval().requires_grad_(False)


@torch.no_grad()
def forward_flops(model: nn.Module, image: Tensor) -> int:
    """FLOPs of one image, (1, 3, H, W); attention as two products, so that no fused kernel hides it from the count."""
    with sdpa_kernel(SDPBackend.MATH):
        return flops(partial(model, image))


def _rates(plain: nn.Module, model: nn.Module, setting: Setting, batch: int, repeats: int) -> dict[str, list[float]]:
    """Images per second of both, in turn: neighbours in time share the machine's state."""
    images = setting.images(batch)

    def forward(of: nn.Module) -> None:
        with torch.no_grad():
            in_precision(of, PRECISIONS[setting.precision])(images)
        synchronize(setting.device)

    work = {"plain": lambda number: forward(plain), "method": lambda number: forward(model)}
    times = in_turn(work, repeats, calls=max(1, IMAGES // batch))
    return {name: [batch / seconds for seconds in values] for name, values in times.items()}


def measure_inference(setting: Setting, names: Sequence[str], batches: Sequence[int], repeats: int) -> dict[str, Any]:
    """What each method's model costs at inference, and the untouched model beside each.

    Args:
        setting: the backbone with random weights, which cost the same, device and precision.
        names: methods with their default options, Table 1's; none: all that are defined on the backbone.
        batches: images per call.
        repeats: how often a method and the untouched model take turns.
    """
    every = [m.name for m in ordered_methods()]
    lacking = {} if names else undefined(every, setting)
    plain, image = setting.model().eval().requires_grad_(False), setting.images(1)
    base = {"params": _params(plain), "flops": forward_flops(plain, image)}
    rows = []
    for name in names or [name for name in every if name not in lacking]:
        kind = METHODS[name]
        method = kind(setting.model())
        model, tunable = deployed(method).to(setting.device), method.params()
        del method  # of a merged model, whose weights are its own
        rates = {batch: _rates(plain, model, setting, batch, repeats) for batch in batches}
        rows.append({"method": name, "label": kind.row_label(kind.options()), "merged": kind.mergeable,
                     "searched": kind.searches(kind.options()), "tunable": tunable,
                     "extra_params": _params(model) - base["params"],
                     "extra_flops": forward_flops(model, image) - base["flops"],
                     "images_per_second": rates})  # fmt: skip
    listed = f"methods=[{','.join(names)}] " if names else ""
    words = f"backbone={setting.backbone} device={setting.device} precision={setting.precision} repeats={repeats}"
    return {
        "command": f"python benchmark.py inference {listed}batches=[{','.join(map(str, batches))}] {words}",
        **machine(setting),
        "backbone": setting.backbone,
        "precision": setting.precision,
        "batches": list(batches),
        "plain": base,
        "methods": rows,
        "not_defined": lacking,
    }


def _params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def inference_table(found: dict[str, Any]) -> Table:
    """The table of a measurement: the ratios to the untouched model with their range, and what they come to."""
    batches, base = found["batches"], found["plain"]
    header = ["Method", "Model", "Tunable", "Extra params", "GFLOPs", "Extra GFLOPs"]
    header += [title for b in batches for title in (f"Images/s, batch {b}", f"times untouched, batch {b}")]
    on = f"{found['hardware']['device']}, {found['precision']}"
    table = Table(f"Inference of {found['backbone']} on {on}", header, [])
    rates = {b: [r for row in found["methods"] for r in row["images_per_second"][b]["plain"]] for b in batches}
    cells = [cell for b in batches for cell in (f"{statistics.median(rates[b]):,.1f}", MISSING)]
    table.rows.append([PLAIN, MISSING, MISSING, MISSING, _giga(base["flops"]), MISSING, *cells])
    for row in found["methods"]:
        cells = []
        for b in batches:
            ratios = pairs(row["images_per_second"][b], "method", "plain")
            cells += [f"{statistics.median(rates[b]) * statistics.median(ratios):,.1f}", spread(ratios)]
        name = f"{row['label']}, largest subnet" if row["searched"] else row["label"]
        flops_of = base["flops"] + row["extra_flops"]
        table.rows.append([name, "merged" if row["merged"] else "unmerged", count(row["tunable"]),
                           count(row["extra_params"]), _giga(flops_of), _giga(row["extra_flops"]), *cells])  # fmt: skip
    table.notes += [
        f"{found['command']}; {', '.join(f'{k} {v}' for k, v in found['versions'].items())}, "
        f"threads {found['hardware']['threads']}",
        "times untouched: ratio of images/s, median (range) over neighbours in time, above 1 is faster; images/s: of "
        "the untouched model the median over the whole measurement, of a method that times the ratio: a machine "
        "whose speed drifts does not order them then",
        "Tunable: without head; extra: of the model as it is used, beside the untouched one; FLOPs of products, "
        "convolutions and attention for one image, a multiply-add being two",
        "random weights, methods with their default options, the last block whole",
        *(f"left out: {reason}" for reason in found["not_defined"].values()),
    ]
    return table


def _giga(flops_of: int) -> str:
    return "0" if flops_of == 0 else f"{flops_of / 1e9:.3f}"
