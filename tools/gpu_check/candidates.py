"""Candidates of a search, where their time goes, and the merged model beside the untouched one."""

from __future__ import annotations

import random
import statistics
import time

import torch
from torch import nn

from glora import MergedEvaluator
from glora.backbones import NORMALIZATIONS
from glora.evaluation import Batches, measure
from glora.train import Normalizer
from runner.bench.model import measure_search
from runner.bench.setting import in_turn, pairs, spread, synchronize
from runner.config.compute import PRECISIONS
from tools.gpu_check.check import BATCHES, THOUSAND, Check, merged_name

CANDIDATES, IMAGES = 1000, 200


def random_images(count: int, size: int, device: str) -> torch.Tensor:
    """(count, 3, size, size) uint8."""
    drawn = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return drawn.to(device)


def measure_thousand(check: Check, precision: str, name: str, wanted: int, share: float) -> None:
    """Evaluate up to `wanted` subnets as a search does, for `share` of the time left, and carry on from there."""
    setting = check.setting(precision)
    supernet, count = setting.supernet(), 8 if check.smoke else IMAGES
    evaluator = MergedEvaluator(supernet)
    labels = torch.zeros(count, dtype=torch.long, device=check.device)
    images = random_images(count, setting.images(1).shape[-1], check.device)
    batches = Batches(images, Normalizer(*NORMALIZATIONS["inception"]), labels.device, keep=True)
    stop, times = time.time() + share * check.left, list[float]()
    for number in range(-2, wanted):  # two prepare the batches and load kernels
        began = time.perf_counter()
        measure(evaluator.write(supernet.space.sample(random.Random(number))), batches, labels, PRECISIONS[precision])
        if number >= 0:
            times.append(time.perf_counter() - began)
            if time.time() > stop:
                break
    whole = sum(times) * CANDIDATES / len(times)
    how = "measured" if len(times) == CANDIDATES else f"extrapolated from {len(times)}"
    check.note(name, whole, "s", f"{how}, {precision}, {count} images, {1000 * statistics.median(times):.1f} ms each")


def measure_inference(check: Check) -> None:
    """The exported merged model against the untouched one in float32, in turn."""
    setting = check.setting("fp32")
    adapted, plain = setting.supernet(whole=True), setting.model().eval()
    merged = adapted.merge(adapted.space.largest).eval()
    for batch in BATCHES:
        x = setting.images(2 if check.smoke and batch > 4 else batch)

        @torch.inference_mode()
        def run(model: nn.Module, x: torch.Tensor = x) -> None:
            model(x)
            synchronize(check.device)

        repeats, calls = (2, 1) if check.smoke else (21, 10 if batch < 256 else 1)
        times = in_turn({"merged": lambda i: run(merged), "untouched": lambda i: run(plain)}, repeats, calls)  # noqa: B023
        ratios = pairs(times, "merged", "untouched")
        middle = 1000 * statistics.median(times["untouched"])
        check.note(merged_name(batch), statistics.median(ratios), remark=f"{spread(ratios)}; untouched {middle:.2f} ms")


def measure_candidates(check: Check) -> None:
    """Candidates, inference, then the parts of a candidate's time."""
    few = 3 if check.smoke else CANDIDATES
    measure_thousand(check, "bf16", THOUSAND, few, 0.5)
    measure_inference(check)
    found = measure_search(check.setting("bf16"), 1 if check.smoke else 5, 8 if check.smoke else IMAGES)
    whole = statistics.median(found["seconds"]["candidate, merged"])
    for name, values in found["seconds"].items():
        middle = statistics.median(values)
        check.note(f"{name}, bf16", 1000 * middle, "ms", f"{middle / whole:.0%} of a candidate")
    measure_thousand(check, "fp32", f"{THOUSAND}, IEEE fp32", few // 10 or few, 0.7)
