"""The learning rate of every epoch, to the last printed value of the published recipe."""

from __future__ import annotations

import math


def cosine_lr(epoch: int, lr: float, epochs: int, warmup: int, warmup_lr: float = 1e-6, lr_min: float = 1e-5) -> float:
    """Learning rate of epoch `epoch` (0-based).

    The published scheduler is stepped after each epoch with the index of the epoch just finished, so epochs 0 and 1
    both run at `warmup_lr` and epoch e at g(e-1); its cosine is not shifted by the warm-up. Equal to timm's
    `CosineLRScheduler(t_initial=epochs, warmup_t=warmup, warmup_lr_init=1e-6, lr_min=1e-5)`.
    """
    t = max(epoch - 1, 0)
    if t < warmup:
        return warmup_lr + t * (lr - warmup_lr) / warmup
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * t / epochs))
