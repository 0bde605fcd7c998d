"""What an epoch has come to after some of its steps: read from the device at its end, or for a checkpoint inside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Begun:
    """The losses and hits of an epoch's steps so far, and where the generators of drop path stand.

    They stay on the device until they are asked for: a look at every step would make the host wait for it.

    Attributes:
        steps: how many are done; each of them added equally many losses, one for each subnet.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._losses: list[Tensor] = []
        self._hits: list[Tensor] = []
        self._generators: dict[str, Tensor] = {}
        self._device: torch.device | None = None  # until this process draws

    def seed(self, number: int, device: torch.device) -> None:
        """Let the global generators of the CPU and of `device` stand where this epoch left them, or at its start."""
        self._device = device
        torch.manual_seed(number)
        if "cpu" in self._generators:
            torch.set_rng_state(self._generators["cpu"])
        if "cuda" in self._generators and device.type == "cuda":
            torch.cuda.set_rng_state(self._generators["cuda"], device)

    def add(self, loss: Tensor, hits: Tensor) -> None:
        """The mean loss () of one subnet over a batch, and how many images it got right, () int64."""
        self._losses.append(loss)
        self._hits.append(hits)

    def first_infinite(self) -> tuple[int, float] | None:
        """The step, from 0, of the first loss that is not finite, and that loss."""
        values = self._read(self._losses).tolist()
        each = max(len(values) // max(self.steps, 1), 1)
        return next(((i // each, v) for i, v in enumerate(values) if not math.isfinite(v)), None)

    def means(self, batch_size: int) -> tuple[float, float]:
        """Mean loss, and accuracy in [0, 1], over all images and subnets."""
        losses = self._read(self._losses).tolist()
        seen = len(losses) * batch_size
        return sum(value * batch_size for value in losses) / seen, int(self._read(self._hits).sum()) / seen

    def state(self) -> dict[str, Any]:
        """Tensors on the CPU, and numbers, from which `of` makes the same."""
        losses, hits = self._read(self._losses), self._read(self._hits)
        generators = self._generators
        if self._device is not None:
            generators = {"cpu": torch.get_rng_state()}
            if self._device.type == "cuda":
                generators["cuda"] = torch.cuda.get_rng_state(self._device)
        return {"steps": self.steps, "losses": losses, "hits": hits, "generators": generators}

    @classmethod
    def of(cls, state: Mapping[str, Any], batch_size: int) -> Begun:
        """The inverse of `state`.

        Raises:
            ValueError, KeyError, TypeError: if it is none that an epoch in batches of this size can have reached.
        """
        made, losses, hits = cls(), state["losses"], state["hits"]
        made.steps = int(state["steps"])
        fits = losses.shape == hits.shape == (len(losses),) and made.steps > 0 and len(losses) % made.steps == 0
        if not fits or not losses.is_floating_point() or hits.dtype != torch.int64 or not len(losses):
            raise ValueError(f"{made.steps} steps and {tuple(losses.shape)} losses do not fit together")
        if not losses.isfinite().all() or (hits < 0).any() or (hits > batch_size).any():
            raise ValueError("a figure of its last epoch is out of range")
        made._losses, made._hits = list(losses.unbind()), list(hits.unbind())
        made._generators = dict(state["generators"])
        if made._generators["cpu"].shape != torch.get_rng_state().shape:
            raise ValueError("its generator is another one")
        return made

    @staticmethod
    def _read(values: list[Tensor]) -> Tensor:
        """One tensor on the CPU; those of an earlier process are there already."""
        if len({v.device for v in values}) > 1:
            values = [v.cpu() for v in values]
        return torch.stack(values).cpu()
