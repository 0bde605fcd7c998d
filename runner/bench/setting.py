"""What every measurement of a model shares: the setting, the clock, the machine's rates, and the record."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glora import Supernet
from glora.class_token import compute_class_token_alone
from runner.config.compute import PRECISIONS
from runner.tracking.environment import processor, versions

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit_b16": ("vit_base_patch16_224", {}),
    "swin_b": ("swin_base_patch4_window7_224", {}),
    "vit_micro": (
        "vit_tiny_patch16_224",
        {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4},
    ),
}
"""Short names: architecture and its arguments. Weights are random, which costs the same."""


@dataclass(frozen=True)
class Setting:
    """What is measured: backbone (of `MODELS` or timm's), ranks, batch size, device, precision of the products."""

    backbone: str = "vit_micro"
    ranks: tuple[int, ...] = (8, 4)
    batch: int = 64
    device: str = "cpu"
    precision: str = "fp32"

    @property
    def cuda(self) -> bool:
        """Whether the device is a CUDA one."""
        return torch.device(self.device).type == "cuda"

    @property
    def form(self) -> str:
        """The form of the supernet that a run takes on this device (`runner.config.compute.plan`)."""
        return "static" if self.cuda else "branch"

    def overrides(self) -> str:
        """As the command line takes them."""
        return (
            f"backbone={self.backbone} ranks=[{','.join(map(str, self.ranks))}] batch={self.batch} "
            f"device={self.device} precision={self.precision}"
        )

    def model(self, classes: int = 100, **changes: Any) -> nn.Module:
        """The backbone with random weights and drop path 0.1; `changes` are further arguments of it."""
        name, kwargs = MODELS.get(self.backbone, (self.backbone, {}))
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, num_classes=classes, drop_path_rate=0.1, **{**kwargs, **changes})
        return model.to(self.device)

    def supernet(self, whole: bool = False, **changes: Any) -> Supernet:
        """The supernet as a run has it, or with its last block `whole`; `changes` as for `model`."""
        supernet = Supernet(self.model(**changes), self.ranks)
        if not whole:
            compute_class_token_alone(supernet.model)
        return supernet

    def images(self, count: int) -> Tensor:
        """Random images on the device, of the backbone's size."""
        name, kwargs = MODELS.get(self.backbone, (self.backbone, {}))
        known = timm.get_pretrained_cfg(name, allow_unregistered=False)
        size = kwargs["img_size"] if "img_size" in kwargs or known is None else known.input_size[-1]
        return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)


def synchronize(device: str) -> None:
    """Wait for the device's queue; nothing to do on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(work: Mapping[str, Callable[[int], object]], repeats: int, calls: int = 1) -> dict[str, list[float]]:
    """Seconds of each, `repeats` times: the median of `calls` calls one after the other, numbered on; one round before
    warms up. All take turns, so that neighbours in time can be compared, and every other round goes backwards, so that
    none is always the first.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, call in list(work.items())[:: -1 if repeat % 2 else 1]:
            run = [seconds(partial(call, i)) for i in range(calls * repeat, calls * (repeat + 1))]
            if repeat:
                times[name].append(statistics.median(run))
    return times


def matmul_rate(setting: Setting) -> float:
    """FLOP/s of the best of ten large matrix products in the setting's precision: the machine's attainable rate."""
    dtype = PRECISIONS[setting.precision]
    n = 8192 if setting.cuda else 2048
    a, b = (torch.randn(n, n, device=setting.device, dtype=dtype) for _ in range(2))

    def product() -> None:
        a @ b
        synchronize(setting.device)

    product()
    return 2 * n**3 / min(seconds(product) for _ in range(10))


def bandwidth(device: str) -> float:
    """Bytes per second, read and written, of the best of ten copies of 256 MB."""
    a = torch.ones(1 << 26, device=device)
    b = torch.empty_like(a)

    def copy() -> None:
        b.copy_(a)
        synchronize(device)

    copy()
    return 2 * a.nbytes / min(seconds(copy) for _ in range(10))


def flops(work: Callable[[], object]) -> int:
    """FLOPs of matrix products, convolutions and attention in one call, a multiply-add being two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def machine(setting: Setting) -> dict[str, Any]:
    """Hardware and versions, as every measurement keeps them."""
    name = torch.cuda.get_device_name(setting.device) if setting.cuda else processor()
    return {"hardware": {"device": name, "threads": torch.get_num_threads()}, "versions": versions("torch", "timm")}


def record(what: str, setting: Setting, repeats: int, times: dict[str, list[float]], base: str) -> dict[str, Any]:
    """What every measurement of times keeps: the command, hardware, versions, seconds, and ratios to `base`."""
    return {
        "command": f"python benchmark.py {what} {setting.overrides()} repeats={repeats}",
        **machine(setting),
        "seconds": times,
        "base": base,
        "ratio_to_base": {name: pairs(times, name, base) for name in times},
    }


def pairs(times: Mapping[str, list[float]], one: str, other: str) -> list[float]:
    """The ratios of neighbours in time."""
    return [a / b for a, b in zip(times[one], times[other], strict=True)]


def spread(ratios: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def lines(found: dict[str, Any]) -> list[str]:
    """The table as Markdown lines: medians, the range of the ratios to the baseline, floor and peak where known.

    Floor over time is the share of the machine's attainable rate. Further ratios follow the table.
    """
    floor, peak = found.get("floor_seconds", {}), found.get("peak_megabytes", {})
    head = ["what", "ms (median)", f"times {found['base']} (median, range)"]
    head += ["floor, ms", "floor / time"] * bool(floor) + ["peak memory, MB"] * bool(peak)
    out = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name, values in found["seconds"].items():
        middle = statistics.median(values)
        cells = [name, f"{1000 * middle:,.1f}", spread(found["ratio_to_base"][name])]
        known = [f"{1000 * floor[name]:,.1f}", f"{floor[name] / middle:.0%}"] if name in floor else ["", ""]
        cells += known if floor else []
        cells += [f"{peak[name]:,.0f}" if name in peak else ""] * bool(peak)
        out.append("| " + " | ".join(cells) + " |")
    return out + [f"{name}: {spread(ratios)}" for name, ratios in found.get("further_ratios", {}).items()]
