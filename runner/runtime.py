"""How a run computes, chosen from the device and open to being overridden: form of the supernet, compiler, precision.

Form, compiler and last block change no number beyond rounding (and the draws of dropout in a cut block), so they are no
part of a run's identity; precision is one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from glora.class_token import computes_class_token_alone
from runner.schema import TrainConf

GRAPHS = ("auto", "branch", "static")
COMPILES = ("auto", "off", "default", "reduce-overhead", "max-autotune")
LAST_BLOCKS = ("auto", "whole")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Plan:
    """`graph` is "branch" or "static" for GLoRA's supernet and None for other methods; `compile` a mode or "off"."""

    graph: str | None
    compile: str
    precision: torch.dtype

    def describe(self, model: nn.Module) -> str:
        """One line for the log, on the `model` that trains."""
        forms = {"branch": "one branch per option", "static": "one static graph for all subnets"}
        form = f"{forms[self.graph]}, " if self.graph else ""
        last = ", last block for the class token alone" if computes_class_token_alone(model) else ""
        precision = str(self.precision).removeprefix("torch.")
        return f"{form}torch.compile {self.compile}, matrix products in {precision}{last}"

    def compiled(self, model: nn.Module) -> nn.Module:
        """The model to call in a training step; it shares its parameters with `model`."""
        if self.compile == "off":
            return model
        return torch.compile(model, mode=None if self.compile == "default" else self.compile)  # type: ignore[return-value]


def use_tf32(on: bool) -> None:
    """Float32 matrix products and convolutions on CUDA in TF32, or as IEEE has them; torch begins with TF32 in the
    convolutions alone.
    """
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on


def plan(c: TrainConf, device: torch.device) -> Plan:
    """What "auto" means: on CUDA GLoRA's supernet is one compiled static graph; elsewhere branches save work."""
    r, glora = c.runtime, c.method.name == "glora"
    pays = device.type == "cuda" or r.compile not in ("auto", "off")
    static = r.graph == "static" or (r.graph == "auto" and pays and c.optimizer.unused_grad == "zero")
    # Branches would be compiled anew for every choice.
    usual = "default" if static and glora and device.type == "cuda" else "off"
    graph = ("static" if static else "branch") if glora else None
    return Plan(graph, usual if r.compile == "auto" else r.compile, PRECISIONS[c.precision])


def devices() -> list[str]:
    """What `device` can be on this machine."""
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["auto", "cpu", *(["cuda"] if found else []), *(f"cuda:{i}" for i in range(found))]


def problems(c: TrainConf) -> list[str]:
    """Which of the chosen values do not go together, a sentence each."""
    r, out = c.runtime, []
    if c.device not in devices():
        out.append(f"device={c.device} is not one of those of this machine: {', '.join(devices())}")
    if r.graph == "static" and c.method.name != "glora":
        out.append(f"runtime.graph=static is a form of GLoRA's supernet; leave it out for method={c.method.name}")
    elif r.graph == "static" and c.optimizer.unused_grad != "zero":
        out.append("runtime.graph=static gives unused tensors zero gradients; write optimizer.unused_grad=zero "
                   "or runtime.graph=branch")  # fmt: skip
    branches = r.graph == "branch" or c.optimizer.unused_grad != "zero"
    if c.method.name == "glora" and branches and r.compile not in ("auto", "off"):
        out.append("runtime.compile with branches would compile every choice anew; write runtime.graph=static "
                   "(which needs optimizer.unused_grad=zero)")  # fmt: skip
    return out
