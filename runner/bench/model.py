"""How fast supernet steps and candidates are: ours against the plain baseline, full fine-tuning, and the floor."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from glora import MergedEvaluator
from glora.product import in_precision
from runner.bench.reference import to_reference
from runner.bench.setting import Setting, bandwidth, flops, in_turn, matmul_rate, pairs, record, synchronize
from runner.config.compute import PRECISIONS, compiled, use_tf32
from runner.tracking.environment import PeakMemory
from runner.tracking.memory import keep_freed_memory

BASE = "reference"
"""The published way, in float32 whatever the setting's precision."""


def kinds(setting: Setting) -> dict[str, tuple[str, str]]:
    """What a training benchmark compares: by name the form of the step and its precision."""
    p = setting.precision
    found = {"glora, branches": ("branch", p), "glora, static graph": ("static", p), BASE: ("reference", "fp32"),
             "full fine-tuning": ("full", p)}  # fmt: skip
    if p != "fp32":
        found[f"{BASE}, {p}"] = ("reference", p)
    if setting.cuda:
        found[f"{BASE}, tf32"] = ("reference", "tf32")
    return found


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """IEEE float32 products on CUDA, or TF32 ones."""
    use_tf32(on)
    try:
        yield
    finally:
        use_tf32(False)


class Step:
    """A training step of one form: "branch" and "static" (this project), "reference" (the plain way), or "full".

    On CUDA the static graph is compiled, as in a run.
    """

    def __init__(self, setting: Setting, form: str, precision: str = "fp32", **changes: Any) -> None:
        self.setting, self.precision = setting, "fp32" if precision == "tf32" else precision
        self.tf32 = precision == "tf32"
        self.supernet = None if form == "full" else setting.supernet(whole=form == "reference", **changes)
        self.model = (setting.model(**changes) if self.supernet is None else self.supernet.model).train()
        self.plain = self.called = in_precision(self.model, PRECISIONS[self.precision])
        if self.supernet is not None and form == "static":
            self.supernet.use_static_graph()
            if setting.cuda:
                self.called = compiled(self.plain)
        elif self.supernet is not None and form == "reference":
            to_reference(self.supernet)
        trained = self.model.parameters() if self.supernet is None else self.supernet.trainable().values()
        self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-4)
        for group in self.optimizer.param_groups:
            for p in group["params"]:
                p.grad = torch.zeros_like(p)
        self.x = setting.images(setting.batch)
        self.y = torch.zeros(setting.batch, dtype=torch.long, device=setting.device)

    def __call__(self, number: int, batch: int | None = None) -> None:
        """Step `number`, on the first `batch` images, to its end; the drawn subnet is a function of the number."""
        self.queue(number, batch)
        synchronize(self.setting.device)

    def queue(self, number: int, batch: int | None = None) -> None:
        """The same without waiting for the device, as a run takes its steps."""
        if self.supernet is not None:
            self.supernet.sample(random.Random(number))
        torch.manual_seed(number)
        self.optimizer.zero_grad(set_to_none=False)
        with tf32(self.tf32):
            logits = self.called(self.x[:batch])
            F.cross_entropy(logits.float(), self.y[:batch]).backward()
            self.optimizer.step()


def step_flops(step: Step, numbers: range) -> float:
    """Mean FLOPs of the steps with these numbers: which options a step draws decides what it costs.

    Counted on one and on two images and carried on: the rest is proportional to the batch.
    """

    step.called = step.plain  # operations are counted as they are called, not as a compiler joins them

    def one(number: int) -> float:
        first, second = (flops(partial(step, number, b)) for b in (1, 2))
        return first + (second - first) * (step.setting.batch - 1)

    return statistics.fmean(map(one, numbers))


def peak_megabytes(setting: Setting, form: str, precision: str) -> float:
    """Peak memory of a process that takes three steps (on CUDA: of the allocator)."""
    args = [form, precision, setting.backbone, ",".join(map(str, setting.ranks)), str(setting.batch), setting.device]
    done = subprocess.run([sys.executable, "-m", "runner.bench.model", *args, str(torch.get_num_threads())],
                          check=True, capture_output=True, text=True)  # fmt: skip
    return float(done.stdout)


def measure_train(setting: Setting, repeats: int) -> dict[str, Any]:
    """Seconds of `repeats` steps of each kind, in turn; ratios are of neighbours in time with the same subnet."""
    compared = kinds(setting)
    work = {name: Step(setting, *kind) for name, kind in compared.items()}
    times = in_turn(work, repeats)
    # The floor is of the setting's precision: another one has another rate.
    same = [name for name, (_, precision) in compared.items() if precision == setting.precision]
    counted = {name: step_flops(work[name], range(1, repeats + 1)) for name in same}
    rate = matmul_rate(setting)
    return record("train", setting, repeats, times, BASE) | {
        "flops_per_step": counted,
        "matmul_flops_per_second": rate,
        "floor_seconds": {name: count / rate for name, count in counted.items()},
        "peak_megabytes": {name: peak_megabytes(setting, *kind) for name, kind in compared.items()},
        "further_ratios": {
            f"{name} / {other}": pairs(times, name, other)
            for other in compared
            if other.startswith(f"{BASE}, ")
            for name in compared
            if name.startswith("glora")
        },
    }


def measure_search(setting: Setting, repeats: int, images: int = 200) -> dict[str, Any]:
    """Seconds per candidate on `images` images: merged (ours), through the adapted layers, merge alone, plain timm."""
    supernet, plain, x = setting.supernet(), setting.model().eval(), setting.images(images)
    evaluator, adapted = MergedEvaluator(supernet), setting.supernet(whole=True)
    merged = adapted.merge(adapted.space.largest).eval()  # the plain model that is exported
    to_reference(adapted)
    adapted.model.eval()

    @torch.no_grad()
    def run(model: nn.Module) -> None:
        forward = in_precision(model, PRECISIONS[setting.precision])
        for part in x.split(setting.batch):
            forward(part)
        synchronize(setting.device)

    def through_layers(i: int) -> None:
        adapted.sample(random.Random(i))
        run(adapted.model)

    def merge(i: int) -> nn.Module:
        model = evaluator.write(supernet.space.sample(random.Random(i)))
        synchronize(setting.device)
        return model

    work: dict[str, Callable[[int], object]] = {
        "candidate, merged": lambda i: run(merge(i)),
        "candidate, adapted layers": through_layers,
        "merge alone": merge,
        "untouched model": lambda i: run(plain),
        "merged model": lambda i: run(merged),
    }
    times = in_turn(work, repeats)
    rate = matmul_rate(setting)
    whole, forward = (flops(partial(run, m)) / rate for m in (plain, evaluator.model))
    moved = 2 * sum(layer.weight.nbytes for layer in supernet.layers.values())  # read once, written once
    merging = moved / bandwidth(setting.device)
    floor = dict.fromkeys(("untouched model", "merged model"), whole)
    return record("search", setting, repeats, times, "candidate, adapted layers") | {
        "images": images,
        "further_ratios": {"merged model / untouched model": pairs(times, "merged model", "untouched model")},
        "floor_seconds": {"candidate, merged": forward + merging, "merge alone": merging, **floor},
    }


def _peak(args: list[str]) -> float:
    form, precision, backbone, ranks, batch, device, threads = args
    torch.set_num_threads(int(threads))
    keep_freed_memory()
    memory = PeakMemory(torch.device(device))
    step = Step(Setting(backbone, tuple(map(int, ranks.split(","))), int(batch), device), form, precision)
    for number in range(3):
        step(number)
    return memory.megabytes()


if __name__ == "__main__":
    print(_peak(sys.argv[1:]))
