"""The optimisation settings of a training, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass

from glora.sampling import SAMPLERS
from glora.schedule import SCHEDULES

OPTIMIZERS = ("adamw", "sgd")
UNUSED_GRADS = ("zero", "first_draw", "none")


@dataclass(frozen=True)
class Recipe:
    """Optimisation settings; the defaults are the paper's (500 epochs, AdamW, cosine per epoch, no augmentation).

    `unused_grad`: what the optimiser does with parameters outside the drawn subnet. "zero": their gradient is zero, so
    momentum and decay go on, from the first step. "first_draw": the same from the step that first draws a tensor;
    before, it has neither decay nor a step count. That is what the published code does under its torch 1.10, where
    `zero_grad` fills zeros. "none": they are skipped, as torch 2 does by itself. `optimizer` is "adamw" or "sgd"
    (momentum 0.9); without `decay_1d`, biases and other one-dimensional tensors get no weight decay. `schedule` is a
    key of `glora.schedule.SCHEDULES`.

    A supernet trains by `sampling`, a key of `glora.sampling.SAMPLERS`, with `draws` random subnets a step. With
    `distill` those behind the largest learn its class probabilities, detached, instead of the labels (in-place
    distillation: arXiv 1903.05134 and 2003.11142). `ema`: decay of an average of the weights, which is evaluated in
    their place (`Trainer.evaluated`); None: no average.
    """

    lr: float = 5e-4
    epochs: int = 500
    warmup_epochs: int = 10
    batch_size: int = 64
    weight_decay: float = 1e-4
    unused_grad: str = "zero"
    max_steps: int | None = None
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    optimizer: str = "adamw"
    decay_1d: bool = True
    schedule: str = "glora"
    sampling: str = "uniform"
    draws: int = 1
    distill: bool = False
    ema: float | None = None

    def __post_init__(self) -> None:
        if self.unused_grad not in UNUSED_GRADS:
            raise ValueError(f"unused_grad is {self.unused_grad!r}; allowed: {', '.join(UNUSED_GRADS)}")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer is {self.optimizer!r}; allowed: {', '.join(OPTIMIZERS)}")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule is {self.schedule!r}; allowed: {', '.join(SCHEDULES)}")
        if self.sampling not in SAMPLERS:
            raise ValueError(f"sampling is {self.sampling!r}; allowed: {', '.join(SAMPLERS)}")
        if self.distill and not SAMPLERS[self.sampling].from_largest:
            teachers = ", ".join(name for name, kind in SAMPLERS.items() if kind.from_largest)
            raise ValueError(
                f"distill needs the largest subnet in every step: sampling={teachers}, not {self.sampling}"
            )
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must lie between 0 and 1, got {self.ema}")
        for name in ("lr", "epochs", "batch_size", "draws"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
