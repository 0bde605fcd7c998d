"""The learning rate of every epoch, to the last printed value of the published recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Where one published code puts a linear warm-up and a cosine; t is the scheduler's own time.

    Attributes:
        late: its scheduler is stepped after each epoch with the index of the epoch just finished, so epochs 0 and 1
            both run at t = 0 and epoch e at t = e - 1; else epoch e runs at t = e.
        shifted: the cosine begins where the warm-up ends; else it has run since t = 0 and the warm-up hides its start.
        early_peak: the warm-up reaches the learning rate in its last epoch, not in the epoch after it.
    """

    late: bool
    shifted: bool
    early_peak: bool = False


SCHEDULES = {
    # timm's CosineLRScheduler(t_initial=epochs, warmup_t=warmup), stepped with the finished epoch: GLoRA, FacT, NOAH.
    "glora": Schedule(late=True, shifted=False),
    # The same scheduler stepped with the coming epoch, as timm's own training script does: SSF.
    "timm": Schedule(late=False, shifted=False),
    # VPT's own LambdaLR.
    "vpt": Schedule(late=False, shifted=True),
    # Adapter+'s LinearWarmupCosineAnnealingLR, which Lightning steps with the index of the finished epoch.
    "adapter_plus": Schedule(late=True, shifted=True, early_peak=True),
}


def cosine_lr(
    epoch: int,
    lr: float,
    epochs: int,
    warmup: int,
    warmup_lr: float = 1e-6,
    lr_min: float = 1e-5,
    schedule: str = "glora",
) -> float:
    """Learning rate of epoch `epoch` (0-based) of `epochs`, the first `warmup` of them warming up from `warmup_lr`.

    `schedule` is a key of `SCHEDULES`; all end near `lr_min`.
    """
    s = SCHEDULES[schedule]
    t = max(epoch - 1, 0) if s.late else epoch
    if t < warmup:
        return warmup_lr + t * (lr - warmup_lr) / max(warmup - s.early_peak, 1)
    start = warmup if s.shifted else 0
    return lr_min + 0.5 * (lr - lr_min) * (1 + math.cos(math.pi * (t - start) / (epochs - start)))
