"""Fixed random maps that need no storage beyond a seed: a fastfood-type projection and a shuffle (SuperLoRA)."""

from __future__ import annotations

import torch
from torch import Tensor


def hadamard(x: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform of a vector whose length is a power of two."""
    n, half = x.numel(), 1
    y = x
    while half < n:
        pairs = y.reshape(-1, 2, half)
        y = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1)
        half *= 2
    scale: float = n**0.5
    return y.reshape(n) / scale


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)  # on the CPU, so that every device sees the same map


def project(x: Tensor, length: int, seed: int) -> Tensor:
    """A fixed linear map of (m,) to (length,): blocks H G P H S (fastfood), cut to the length.

    S are random signs, P a permutation, G Gaussian scales, H orthonormal Hadamard on the next power of two n, to
    which x is padded. Entries have variance 1/n. Everything is drawn again from `seed` at each call.
    """
    n = 1 << max(0, x.numel() - 1).bit_length()
    padded = torch.nn.functional.pad(x, (0, n - x.numel()))
    draw, blocks, device = _generator(seed), [], x.device
    for _ in range(-(-length // n)):
        signs = torch.randint(0, 2, (n,), generator=draw).mul_(2).sub_(1).to(device, x.dtype)
        order = torch.randperm(n, generator=draw).to(device)
        scales = torch.randn(n, generator=draw).to(device, x.dtype)
        blocks.append(hadamard(hadamard(padded * signs)[order] * scales))
    return torch.cat(blocks)[:length]


def shuffle(x: Tensor, seed: int) -> Tensor:
    """The entries of a vector in a fixed random order, drawn again from `seed` at each call."""
    return x[torch.randperm(x.numel(), generator=_generator(seed)).to(x.device)]
