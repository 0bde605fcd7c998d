"""The form of computation: chosen from the device, overridden by a user, named, and no part of a run's identity."""

import pytest
import torch

from runner.config import compute
from runner.config.errors import ConfigError
from runner.stages.model import build
from tests.helpers.composing import resolved

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def read(*overrides):
    return resolved("dataset=digits", "trainer=mini", *overrides)


@pytest.mark.parametrize(
    ("overrides", "device", "graph", "compile"),
    [
        ([], CPU, "branch", "off"),
        ([], CUDA, "static", "default"),
        (["optimizer.unused_grad=none"], CUDA, "branch", "off"),
        (["optimizer.unused_grad=first_draw"], CUDA, "branch", "off"),
        (["method=lora"], CUDA, None, "off"),
        (["runtime.graph=branch"], CUDA, "branch", "off"),
        (["runtime.graph=static"], CPU, "static", "off"),
        (["runtime.graph=static", "runtime.compile=reduce-overhead"], CUDA, "static", "reduce-overhead"),
        (["runtime.compile=default"], CPU, "static", "default"),
        (["method=lora", "runtime.compile=default"], CPU, None, "default"),
    ],
)
def test_the_device_decides_and_overrides_win(overrides, device, graph, compile):
    run, forms = read(*(w for w in overrides if not w.startswith("runtime"))), {"graph": "auto", "compile": "auto"}
    forms |= dict(w.removeprefix("runtime.").split("=") for w in overrides if w.startswith("runtime"))
    zero = run.recipe.unused_grad == "zero"
    found = compute.decide(device, "fp32", forms["graph"], forms["compile"], "auto", run.method.kind.static_graph, zero)
    assert (found.graph, found.compile) == (graph, compile)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["runtime.graph=eager"], "runtime.graph=eager is not one of auto, branch, static"),
        (["runtime.last_block=cls"], "runtime.last_block=cls is not one of auto, whole"),
        (["precision=fp16"], "precision=fp16 is not one of fp32, bf16"),
        (["runtime.graph=static", "method=lora"], "that method=lora does not have; leave it out"),
        (["runtime.graph=static", "optimizer.unused_grad=none"], "write optimizer.unused_grad=zero"),
        (["runtime.graph=static", "optimizer.unused_grad=first_draw"], "write optimizer.unused_grad=zero"),
        (["runtime.graph=branch", "runtime.compile=default"], "write runtime.graph=static"),
        (["optimizer.unused_grad=none", "runtime.compile=default"], "needs optimizer.unused_grad=zero"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        read(*overrides)


def test_form_and_compiler_share_a_run_folder_and_precision_does_not():
    usual = read().directory
    form = "runtime.graph=static", "runtime.compile=default", "runtime.last_block=whole"
    assert read(*form, "precision=fp32").directory == usual
    assert read("precision=bf16").directory != usual


@pytest.mark.parametrize(
    ("overrides", "end"), [([], ", last block for the class token alone"), (["runtime.last_block=whole"], "")]
)
def test_the_log_names_the_form_and_the_last_block(overrides, end):
    c = read("backbone=vit_micro", "backbone.pretrained=false", "runtime.graph=static", "precision=bf16", *overrides)
    found = c.compute.describe(build(c).model)
    assert found == f"one static graph for all subnets, torch.compile off, matrix products in bfloat16{end}"
