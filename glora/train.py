"""Training of frozen-backbone methods on a fixed set of images; the GLoRA supernet recipe of the paper.

Every random choice is a function of (seed, epoch) or (seed, step), but for drop path, whose generator is part of the
state inside an epoch; so a run that resumes after any step draws what the unbroken run draws. Several processes may
share every batch (`glora.distributed`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from glora.average import WeightAverage
from glora.distributed import ONE, Figures, Ranks
from glora.epoch import Begun
from glora.optimizers import check_optimizer_state, make_optimizer, on_cpu
from glora.product import Forward, in_precision
from glora.recipe import Recipe
from glora.sampling import SAMPLERS, Drawn, step_rng
from glora.schedule import cosine_lr
from glora.state import check_trained, load_trained

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normalizer:
    """uint8 images to normalised floats on the device; `mean` and `std` are per channel in [0, 1] units."""

    mean: Channels
    std: Channels

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 to float32."""
        mean, std = _pixel_constants(self.mean, self.std, images.device)
        return (images.float() - mean) / std


@functools.cache
def _pixel_constants(mean: Channels, std: Channels, device: torch.device) -> tuple[Tensor, Tensor]:
    """Both as (3, 1, 1) in [0, 255] units; kept, since a transfer in every step would make the host wait."""
    # Scaled before the copy, which is done when it returns: whatever stream asks next reads them whole.
    scaled = [(torch.tensor(v).view(3, 1, 1) * 255).to(device) for v in (mean, std)]
    return scaled[0], scaled[1]


class Augmented(Protocol):
    """Training images that differ in every epoch."""

    def __len__(self) -> int:
        """Number of images."""

    def batch(self, indices: Tensor, epoch: int) -> Tensor:
        """Model input (B, 3, H, W) of these images in this epoch, a function of both alone."""


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The image order of one epoch, a function of seed and epoch."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))


class Trainer:
    """Runs epochs over images held in memory.

    Args:
        model: the model to train; gradients flow to `parameters` only.
        parameters: what trains, by name.
        recipe: the optimisation settings.
        before_step: called with a `random.Random` before each step (a method draws its subnet there).
        normalize: maps a uint8 batch to model input.
        seed: drives image order, subnet draws and drop path.
        no_decay: names of parameters that get no weight decay.
        eval_backbone: train with the model in eval mode (no drop path).
        precision: of the matrix products (autocast); parameters, loss and optimiser stay in the model's own.
        supernet: what the model holds, if its subnets train as `recipe.sampling` says, whatever `before_step` draws.
        compile: makes of a step's forward pass what is called in its place.
        ranks: the processes that share every batch; each is given all images and has a `Trainer` of its own, alike.

    Raises:
        ValueError: if the supernet's space is none that the recipe's sampling is for, or a batch has fewer images than
            there are ranks.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: dict[str, nn.Parameter],
        recipe: Recipe,
        normalize: Callable[[Tensor], Tensor],
        seed: int = 0,
        before_step: Callable[[random.Random], object] | None = None,
        no_decay: Collection[str] = (),
        eval_backbone: bool = False,
        precision: torch.dtype = torch.float32,
        supernet: Drawn[Any] | None = None,
        compile: Callable[[Forward], Forward] = lambda forward: forward,
        ranks: Ranks = ONE,
    ) -> None:
        if recipe.batch_size < ranks.size:
            raise ValueError(f"a batch of {recipe.batch_size} has not one image for each of {ranks.size} ranks")
        self._forward = compile(in_precision(model, precision))
        self.model, self.parameters, self.recipe = model, parameters, recipe
        self.normalize, self.seed, self.before_step = normalize, seed, before_step
        self.eval_backbone, self.supernet, self.ranks = eval_backbone, supernet, ranks
        self._sampler = None if supernet is None else SAMPLERS[recipe.sampling](supernet.space, recipe.draws)
        self.optimizer = make_optimizer(parameters, recipe, no_decay)
        self._average = None if recipe.ema is None else WeightAverage(parameters, recipe.ema)
        self.epoch = self.step = 0
        self._begun = Begun()
        if recipe.unused_grad == "zero":
            for parameter in parameters.values():
                parameter.grad = torch.zeros_like(parameter)

    def lr(self, epoch: int) -> float:
        """Learning rate of an epoch."""
        r = self.recipe
        warmup = min(r.warmup_epochs, r.epochs // 2)
        return cosine_lr(epoch, r.lr, r.epochs, warmup, r.warmup_lr, r.min_lr, r.schedule)

    @property
    def done(self) -> bool:
        """All epochs, or `max_steps`, are behind us."""
        limit = self.recipe.max_steps
        cut = limit is not None and self.step >= limit and not self.steps_begun
        return self.epoch >= self.recipe.epochs or cut

    def train_epoch(
        self, images: Tensor | Augmented, labels: Tensor, after_step: Callable[[], object] = lambda: None
    ) -> dict[str, float]:
        """One epoch, or what is left of it, over uint8 images (N, 3, H, W) or augmented ones, drop_last.

        Args:
            images: what is trained on.
            labels: (N,) int64, on the device.
            after_step: called after each step; `state` may be taken there, and what it raises ends the epoch, on all
                ranks behind the same step.

        Returns:
            Loss and accuracy, means over the subnets that were drawn, and the learning rate.

        Raises:
            ValueError: if fewer images than one batch are given.
            FloatingPointError: after an epoch in which the loss was not finite, or behind which the weights are not.
                What is in memory is lost then; what was saved before is not.
            Lost: if another rank is gone; BrokenOff, one of them, behind a step that all ranks have taken.
        """
        r = self.recipe
        if len(labels) < r.batch_size:
            raise ValueError(f"{len(labels)} training images are fewer than one batch of {r.batch_size}")
        self._begun.seed(self.seed * 1_000_003 + self.epoch, labels.device)  # drop path's generator
        lr = self.lr(self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.model.train(not self.eval_backbone)
        for module in self.model.modules():
            # Running statistics are no parameters: what training made of them would not be saved with what it trained.
            if isinstance(module, _NormBase):
                module.eval()
        for batch in self._batches(len(labels), labels.device):
            self.ranks.seed(self.seed, self.step)
            if self.before_step is not None:
                self.before_step(step_rng(self.seed, self.step))
            index = self.ranks.share(batch)
            y = labels[index]
            if isinstance(images, Tensor):
                x = self.normalize(images[index])
            else:
                x = images.batch(index.cpu(), self.epoch).to(y.device)
            self.optimizer.zero_grad(set_to_none=r.unused_grad == "none")
            teacher: Tensor | None = None
            found: list[Figures] = []
            for subnet in self._subnets():
                if self.supernet is not None:
                    self.supernet.set(subnet)
                logits = self._forward(x)
                wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
                if teacher is None:
                    loss = F.cross_entropy(wide, y)
                else:
                    loss = F.kl_div(wide.log_softmax(1), teacher, reduction="batchmean", log_target=True)
                loss = self.ranks.weighed(loss, index, batch)
                loss.backward()
                if r.distill and teacher is None:
                    teacher = wide.detach().log_softmax(1)
                found.append((loss.detach(), (logits.detach().argmax(1) == y).sum()))
            for figures in self.ranks.summed(self.parameters.values(), found):
                self._begun.add(*figures)
            self.optimizer.step()
            if self._average is not None:
                self._average.update()
            self.step += 1
            self._begun.steps += 1
            with self.ranks.agreed():
                after_step()
        self.check_finite()
        loss_mean, accuracy = self._begun.means(r.batch_size)
        self.epoch += 1
        self._begun = Begun()
        return {"loss": loss_mean, "train_accuracy": accuracy, "lr": lr}

    @property
    def steps_begun(self) -> int:
        """Steps of the epoch that has begun; 0 between epochs."""
        return self._begun.steps

    def check_finite(self) -> None:
        """Raise FloatingPointError, naming the step, unless the losses of this epoch and the weights are finite.

        The host waits for the device here, which it does nowhere else in an epoch.
        """
        lr = f"lower optimizer.lr (now {self.lr(self.epoch):.3g})"
        odd = self._begun.first_infinite()
        if odd is not None:
            step, value = self.step - self.steps_begun + odd[0], odd[1]
            raise FloatingPointError(f"the loss is {value} at step {step}: {lr} or check the backbone's weights")
        if not torch.stack([p.isfinite().all() for p in self.parameters.values()]).all():
            raise FloatingPointError(f"the weights are not finite after step {self.step}: {lr}")

    def _subnets(self) -> list[Any]:
        """What this step trains; one None, which nobody sets, without a supernet."""
        return [None] if self._sampler is None else self._sampler.subnets(self.seed, self.step)

    def evaluated(self) -> contextlib.AbstractContextManager[None]:
        """Within it the parameters hold what is evaluated and saved: with `recipe.ema` their average."""
        return contextlib.nullcontext() if self._average is None else self._average.applied()

    def _batches(self, count: int, device: torch.device) -> Iterator[Tensor]:
        size, limit = self.recipe.batch_size, self.recipe.max_steps
        order = epoch_order(count, self.seed, self.epoch).to(device)
        for i in range(self.steps_begun, count // size):
            if limit is not None and self.step >= limit:
                return
            yield order[i * size : (i + 1) * size]

    def state(self) -> dict[str, object]:
        """Everything a bit-identical continuation needs, tensors and numbers only."""
        return {
            "parameters": {n: p.detach().cpu().clone() for n, p in self.parameters.items()},
            "optimizer": on_cpu(self.optimizer.state_dict()),
            "epoch": self.epoch,
            "step": self.step,
            **({"begun": self._begun.state()} if self.steps_begun else {}),
            **({} if self._average is None else {"average": self._average.state()}),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError, KeyError, TypeError: changing nothing, if it is no state that this training can have reached.
        """
        check_trained(self.parameters, state["parameters"])
        epoch, step, r = int(state["epoch"]), int(state["step"]), self.recipe
        if not 0 <= epoch <= r.epochs or not epoch <= step <= (math.inf if r.max_steps is None else r.max_steps):
            raise ValueError(f"epoch {epoch} and step {step} lie outside of this training")
        begun = Begun.of(state["begun"], r.batch_size) if "begun" in state else Begun()
        check_optimizer_state(self.optimizer, state["optimizer"], step, step > 0 and r.unused_grad == "zero")
        if self._average is not None:
            self._average.load_state(state["average"])
        load_trained(self.parameters, state["parameters"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.recipe.unused_grad == "first_draw":
            for parameter in self.parameters.values():  # what was drawn before has a state, and so a gradient
                parameter.grad = torch.zeros_like(parameter) if parameter in self.optimizer.state else None
        self.epoch, self.step, self._begun = epoch, step, begun
