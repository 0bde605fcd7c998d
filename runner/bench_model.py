"""How fast supernet steps and candidates are: ours against the plain baseline, full fine-tuning, and the floor."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from glora import MergedEvaluator, Supernet
from runner.hardware import PeakMemory, processor, versions
from runner.reference import to_reference
from runner.runtime import PRECISIONS

MODELS: dict[str, tuple[str, dict[str, Any], int]] = {
    "vit_b16": ("vit_base_patch16_224", {}, 224),
    "swin_b": ("swin_base_patch4_window7_224", {}, 224),
    "vit_micro": (
        "vit_tiny_patch16_224",
        {"img_size": 64, "patch_size": 8, "embed_dim": 128, "depth": 6, "num_heads": 4},
        64,
    ),
}
"""Architecture, its arguments and its image size; weights are random, which costs the same."""

KINDS = ("glora", "reference", "full")


@dataclass(frozen=True)
class Setting:
    """What is measured: backbone, ranks, images per batch, device and precision of the products."""

    backbone: str = "vit_micro"
    ranks: tuple[int, ...] = (8, 4)
    batch: int = 64
    device: str = "cpu"
    precision: str = "fp32"

    def cast(self) -> AbstractContextManager[Any]:
        """Autocast for what is not fp32."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype == torch.float32 else torch.autocast(self.device, dtype)

    def model(self, classes: int = 100) -> nn.Module:
        """The backbone with random weights and drop path 0.1."""
        name, kwargs, _ = MODELS[self.backbone]
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, num_classes=classes, drop_path_rate=0.1, **kwargs)
        return model.to(self.device)

    def images(self, count: int) -> Tensor:
        """Random images on the device."""
        size = MODELS[self.backbone][2]
        return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0)).to(self.device)


def synchronize(device: str) -> None:
    """Wait for the device's queue; nothing to do on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()


class Step:
    """A training step of one kind: "glora" (this project), "reference" (the plain way) or "full" fine-tuning."""

    def __init__(self, setting: Setting, kind: str) -> None:
        self.setting, self.kind = setting, kind
        self.model = setting.model().train()
        self.supernet = None if kind == "full" else Supernet(self.model, setting.ranks)
        if kind == "reference" and self.supernet is not None:
            to_reference(self.supernet)
        trained = self.model.parameters() if self.supernet is None else self.supernet.trainable().values()
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-4)
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p)
        self.x = setting.images(setting.batch)
        self.y = torch.zeros(setting.batch, dtype=torch.long, device=setting.device)

    def __call__(self, number: int) -> None:
        """Step `number`; the drawn subnet is a function of it."""
        if self.supernet is not None:
            self.supernet.sample(random.Random(number))
        torch.manual_seed(number)
        self.optimizer.zero_grad(set_to_none=False)
        with self.setting.cast():
            loss = F.cross_entropy(self.model(self.x).float(), self.y)
        loss.backward()
        self.optimizer.step()
        synchronize(self.setting.device)


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def matmul_rate(setting: Setting) -> float:
    """FLOP/s of the best of ten large matrix products in the setting's precision: the machine's attainable rate."""
    dtype = PRECISIONS[setting.precision]
    n = 8192 if setting.device == "cuda" else 2048
    a, b = (torch.randn(n, n, device=setting.device, dtype=dtype) for _ in range(2))

    def product() -> None:
        a @ b
        synchronize(setting.device)

    product()
    return 2 * n**3 / min(seconds(product) for _ in range(10))


def flops(work: Callable[[], object]) -> int:
    """FLOPs of matrix products, convolutions and attention in one call, a multiply-add being two."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def peak_megabytes(setting: Setting, kind: str) -> float:
    """Peak memory of a process that takes three steps (on CUDA: of the allocator)."""
    words = [setting.backbone, ",".join(map(str, setting.ranks)), str(setting.batch), setting.device, setting.precision]
    done = subprocess.run([sys.executable, "-m", "runner.bench_model", kind, *words, str(torch.get_num_threads())],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return float(done.stdout)


def measure_train(setting: Setting, repeats: int, steps: int = 5) -> dict[str, Any]:
    """Seconds per step of all kinds in turn, `repeats` times `steps` steps each; ratios are of neighbours in time."""
    kinds = {kind: Step(setting, kind) for kind in KINDS}
    # Over many draws: which options a step draws decides what it costs.
    counted = {kind: statistics.fmean(flops(lambda s=step, i=i: s(i)) for i in range(steps))  # type: ignore[misc]
               for kind, step in kinds.items()}  # fmt: skip
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repeat in range(repeats):
        for kind, step in kinds.items():
            first = steps * (repeat + 1)
            run = [seconds(lambda s=step, i=i: s(i)) for i in range(first, first + steps)]  # type: ignore[misc]
            times[kind].append(statistics.median(run))
    rate = matmul_rate(setting)
    floor = {kind: count / rate for kind, count in counted.items()}
    return _record("train", setting, repeats, times, "reference") | {
        "steps": steps,
        "flops_per_step": counted,
        "matmul_flops_per_second": rate,
        "floor_seconds": floor,
        "peak_megabytes": {kind: peak_megabytes(setting, kind) for kind in KINDS},
    }


def measure_search(setting: Setting, repeats: int, images: int = 200) -> dict[str, Any]:
    """Seconds per candidate on `images` images: merged (ours), through the adapted layers, merge alone, plain timm."""
    supernet, plain, x = Supernet(setting.model(), setting.ranks), setting.model().eval(), setting.images(images)
    evaluator, adapted = MergedEvaluator(supernet), Supernet(setting.model(), setting.ranks)
    to_reference(adapted)
    adapted.model.eval()

    @torch.no_grad()
    def run(model: nn.Module) -> None:
        for part in x.split(setting.batch):
            with setting.cast():
                model(part)
        synchronize(setting.device)

    def through_layers(i: int) -> None:
        adapted.sample(random.Random(i))
        run(adapted.model)

    work: dict[str, Callable[[int], None]] = {
        "candidate, merged": lambda i: run(evaluator.write(supernet.space.sample(random.Random(i)))),
        "candidate, adapted layers": through_layers,
        "merge alone": lambda i: (evaluator.write(supernet.space.sample(random.Random(i))), None)[1],
        "untouched model": lambda i: run(plain),
        "merged model": lambda i: run(evaluator.model),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, call in work.items():
            taken = seconds(lambda c=call, i=repeat: c(i))  # type: ignore[misc]
            if repeat:  # the first round warms up
                times[name].append(taken)
    return _record("search", setting, repeats, times, "candidate, adapted layers") | {"images": images}


def _record(what: str, setting: Setting, repeats: int, times: dict[str, list[float]], base: str) -> dict[str, Any]:
    words = f"backbone={setting.backbone} ranks=[{','.join(map(str, setting.ranks))}] batch={setting.batch}"
    words += f" device={setting.device} precision={setting.precision} repeats={repeats}"
    name = torch.cuda.get_device_name() if setting.device == "cuda" else processor()
    ratios = {k: [a / b for a, b in zip(v, times[base], strict=True)] for k, v in times.items()}
    return {
        "command": f"python benchmark.py {what} {words}",
        "hardware": {"processor": name, "threads": torch.get_num_threads()},
        "versions": versions("torch", "timm"),
        "seconds": times,
        "base": base,
        "ratio_to_base": ratios,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The table as Markdown lines: medians, and the range of the ratios to the baseline."""
    floor, peak = found.get("floor_seconds"), found.get("peak_megabytes")
    head = ["what", "ms (median)", f"times {found['base']} (median, range)"]
    head += ["floor, ms", "peak memory, MB"] if floor and peak else []
    out = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for name, values in found["seconds"].items():
        r = found["ratio_to_base"][name]
        cells = [name, f"{1000 * statistics.median(values):,.1f}",
                 f"{statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f})"]  # fmt: skip
        cells += [f"{1000 * floor[name]:,.1f}", f"{peak[name]:,.0f}"] if floor and peak else []
        out.append("| " + " | ".join(cells) + " |")
    return out


def _peak(words: list[str]) -> float:
    kind, backbone, ranks, batch, device, precision, threads = words
    torch.set_num_threads(int(threads))
    memory = PeakMemory(torch.device(device))
    step = Step(Setting(backbone, tuple(map(int, ranks.split(","))), int(batch), device, precision), kind)
    for number in range(3):
        step(number)
    return memory.megabytes()


if __name__ == "__main__":
    print(_peak(sys.argv[1:]))
