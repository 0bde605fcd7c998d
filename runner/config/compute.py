"""How a run computes, chosen from the device and open to being overridden: form of the supernet, compiler, precision.

Form, compiler and last block change no number beyond rounding (and the draws of dropout in a cut block), so they are no
part of a run's identity; precision is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from glora.class_token import computes_class_token_alone
from glora.product import Forward
from runner import torchrun

GRAPHS = ("auto", "branch", "static")
COMPILES = ("auto", "off", "default", "reduce-overhead", "max-autotune")
LAST_BLOCKS = ("auto", "whole")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """`graph` is "branch" or "static" for a method that has both forms and None for others; `compile` a mode or "off".

    `cut_last_block`: a ViT's last block computes the class token alone.
    """

    device: torch.device
    precision: str
    graph: str | None
    compile: str
    cut_last_block: bool

    @property
    def dtype(self) -> torch.dtype:
        """Of the matrix products."""
        return PRECISIONS[self.precision]

    def describe(self, model: nn.Module) -> str:
        """One line for the log, on the `model` that trains."""
        forms = {"branch": "one branch per option", "static": "one static graph for all subnets"}
        form = f"{forms[self.graph]}, " if self.graph else ""
        last = ", last block for the class token alone" if computes_class_token_alone(model) else ""
        precision = str(self.dtype).removeprefix("torch.")
        return f"{form}torch.compile {self.compile}, matrix products in {precision}{last}"

    def compiled(self, forward: Forward) -> Forward:
        """The forward pass of a training step as it is called."""
        return forward if self.compile == "off" else compiled(forward, self.compile)


def compiled(forward: Forward, mode: str = "default") -> Forward:
    """`torch.compile` of a forward pass, however many of other shapes this process compiled before.

    torch's own limit of eight would leave the ninth task of a sweep uncompiled with no more than a warning.
    """
    torch.compiler.config.recompile_limit = torch.compiler.config.accumulated_recompile_limit
    return torch.compile(forward, mode=mode)


def use_tf32(on: bool) -> None:
    """Float32 matrix products and convolutions on CUDA in TF32, or as IEEE has them; torch begins with TF32 in the
    convolutions alone.
    """
    torch.set_float32_matmul_precision("high" if on else "highest")
    torch.backends.cudnn.allow_tf32 = on


def gpu_count() -> int:
    """CUDA devices of this machine."""
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def devices() -> list[str]:
    """What `device` can be on this machine."""
    found = gpu_count()
    return ["auto", "cpu", *(["cuda"] if found else []), *(f"cuda:{i}" for i in range(found))]


def device_of(name: str) -> torch.device:
    """The device to run on; "auto" takes CUDA where there is one. A process of torchrun has a GPU of its own."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name, torchrun.local_rank()) if name == "cuda" and torchrun.size() > 1 else torch.device(name)


def rank_problems(device: str, batch_size: int) -> Iterator[str]:
    """What keeps the processes of torchrun from sharing the batches of one job, a sentence each."""
    here, gpus = torchrun.local_size(), gpu_count()
    if batch_size < torchrun.size():
        yield (f"trainer.batch_size={batch_size} has not one image for each of the {torchrun.size()} processes of "
               f"torchrun; raise it, or start at most {batch_size}")  # fmt: skip
    if here > 1 and ":" in device:
        yield f"device={device} is one GPU, and each process of torchrun takes its own; leave device= out"
    elif here > gpus and device_of(device).type == "cuda":
        yield (f"torchrun started {here} processes on this machine, which has GPUs for {gpus}; "
               f"write --nproc_per_node={gpus} or device=cpu")  # fmt: skip


def decide(
    device: torch.device, precision: str, graph: str, compile: str, last_block: str, has_static: bool, zero_grad: bool
) -> Compute:
    """What "auto" means: on CUDA a supernet with a static form is one compiled graph; elsewhere branches save work.

    Args:
        device: to run on.
        precision: a key of `PRECISIONS`.
        graph: one of `GRAPHS`.
        compile: one of `COMPILES`.
        last_block: one of `LAST_BLOCKS`.
        has_static: whether the method has a static form.
        zero_grad: whether tensors that a step does not use get zero gradients, which the static form gives.
    """
    pays = device.type == "cuda" or compile not in ("auto", "off")
    static = graph == "static" or (graph == "auto" and pays and zero_grad)
    # Branches would be compiled anew for every choice.
    usual = "default" if static and has_static and device.type == "cuda" else "off"
    form = ("static" if static else "branch") if has_static else None
    return Compute(device, precision, form, usual if compile == "auto" else compile, last_block == "auto")


def problems(method: str, graph: str, compile: str, has_static: bool, zero_grad: bool) -> Iterator[str]:
    """Which of the chosen values do not go together, a sentence each."""
    if graph == "static" and not has_static:
        yield f"runtime.graph=static is a form of a supernet that method={method} does not have; leave it out"
    elif graph == "static" and not zero_grad:
        yield ("runtime.graph=static gives unused tensors zero gradients; write optimizer.unused_grad=zero "
               "or runtime.graph=branch")  # fmt: skip
    branches = graph == "branch" or not zero_grad
    if has_static and branches and compile not in ("auto", "off"):
        yield ("runtime.compile with branches would compile every choice anew; write runtime.graph=static "
               "(which needs optimizer.unused_grad=zero)")  # fmt: skip
