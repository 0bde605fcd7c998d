"""A training step of the supernet in every form: its time, share of the matrix rate, compilation, memory and waits."""

from __future__ import annotations

import gc
import statistics
import time
import warnings
from functools import partial
from typing import NamedTuple

import torch
from torch._dynamo.utils import counters

from runner.bench.model import Step, step_flops
from runner.bench.profile import PYTHON, measure_profile
from runner.bench.setting import matmul_rate, seconds, synchronize
from runner.config.compute import compiled
from runner.tracking.environment import PeakMemory
from tools.gpu_check.check import GRAPHS, SHARE, TIMES, WAITS, Check

STEP_FLOPS = 6.43e12
"""Of a step of ViT-B/16 with 64 images: what the static form's matrix products, convolution and attention come to."""


class Form(NamedTuple):
    """A form of `Step`, its precision, and the mode of `torch.compile` or None."""

    name: str
    form: str
    precision: str
    compile: str | None = None


OURS = Form("static graph, compiled, bf16", "static", "bf16", "default")
PLAIN = Form("formula as it stands, IEEE fp32", "reference", "fp32")
FORMS = (
    OURS,
    PLAIN,
    Form("branches, bf16", "branch", "bf16"),
    Form("static graph, not compiled, bf16", "static", "bf16"),
    Form("static graph, CUDA graphs, bf16", "static", "bf16", "reduce-overhead"),
    Form("static graph, compiled, TF32", "static", "tf32", "default"),
    Form("formula as it stands, TF32", "reference", "tf32"),
    Form("static graph, compiled, IEEE fp32", "static", "fp32", "default"),
    Form("branches, IEEE fp32", "branch", "fp32"),
    Form("full fine-tuning, bf16", "full", "bf16"),
)
"""The most telling first: a part that is cut off has shown those."""


def waits(step: Step, number: int) -> int:
    """How often the host waits for the device in one step; torch does not see every kind."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            step.queue(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(w.message) for w in seen)


def measure_form(check: Check, form: Form) -> float:
    """Seconds a step, queued without waiting as a run does; notes that and everything else of the form."""
    graphs = counters["stats"]["unique_graphs"]
    memory = PeakMemory(torch.device(check.device))
    step = Step(check.setting(form.precision.replace("tf32", "fp32")), form.form, form.precision)
    step.called = step.plain
    if form.compile is not None:
        # A compiler of machine code would take longer than all the rest of a smoke run.
        step.called = torch.compile(step.plain, backend="eager") if check.smoke else compiled(step.plain, form.compile)
    first = seconds(partial(step, 0))
    for number in range(1, 2 if check.smoke else 4):  # CUDA graphs are recorded in the second
        step(number)
    if form.compile is not None:
        check.note(f"compilation and first step: {form.name}", first, "s")
    if form is OURS:
        check.note(GRAPHS, counters["stats"]["unique_graphs"] - graphs, remark=form.name)
    if check.cuda:
        check.note(WAITS if form is OURS else f"{WAITS}: {form.name}", waits(step, 4))
    steps, rounds = (1, 2) if check.smoke else (10, 5)

    def queued(start: int) -> None:
        for number in range(start, start + steps):
            step.queue(number)
        synchronize(check.device)

    times = [seconds(partial(queued, 5 + steps * k)) / steps for k in range(rounds)]
    middle = statistics.median(times)
    spread = f"{1000 * min(times):.1f} to {1000 * max(times):.1f}, {rounds} rounds of {steps} steps"
    check.note(f"step: {form.name}", 1000 * middle, "ms", spread)
    check.note(f"peak memory: {form.name}", memory.megabytes(), "MB")
    return middle


def measure_steps(check: Check) -> None:
    """The forms one after another; a form that fails is named and does not stop the others."""
    rate = matmul_rate(check.setting("bf16"))
    check.note("bf16 matrix rate", rate / 1e12, "TFLOP/s", "best of ten products")
    check.note("IEEE fp32 matrix rate", matmul_rate(check.setting("fp32")) / 1e12, "TFLOP/s")
    found: dict[Form, float] = {}
    for form in FORMS[:4] if check.smoke else FORMS:
        try:
            found[form] = measure_form(check, form)
        except Exception as error:  # noqa: BLE001 (a compiler raises anything)
            check.note(f"failed: {form.name}", 1, remark=f"{type(error).__name__}: {str(error)[:300]}")
        gc.collect()
        if check.cuda:
            torch.cuda.empty_cache()
        if form is OURS and form in found:
            work = step_flops(Step(check.setting("bf16"), "static", "bf16"), range(1, 2)) if check.smoke else STEP_FLOPS
            check.note(SHARE, work / found[form] / rate, remark=f"{work / 1e12:.3g} TFLOP a step")
        if form is PLAIN and found.keys() >= {OURS, PLAIN}:
            check.note(TIMES, found[PLAIN] / found[OURS], remark=OURS.name)


def measure_kernels(check: Check) -> None:
    """Where the time of a step goes: groups, the longest kernels, and the share in which the device is idle."""
    began = time.time()
    found = measure_profile(check.setting(), repeats=1, steps=1 if check.smoke else 5)
    whole = found["seconds"]["training step"][0]
    for name, values in found["seconds"].items():
        label = "idle" if name == PYTHON and check.cuda else name
        check.note(f"profile: {label}", 1000 * values[0], "ms", f"{values[0] / whole:.0%} of the step")
    for name, spent in found["longest"].items():
        check.note(f"kernel: {name[:120]}", 1000 * spent, "ms a step", f"{spent / whole:.1%}")
    print(f"profiled in {time.time() - began:.0f} s")
