"""Fixed random maps that need no storage beyond a seed: a fastfood-type projection and a shuffle (SuperLoRA).

Both draw their map again whenever it is used, forward and backward, and autograd keeps nothing of a group's size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def hadamard_(x: Tensor) -> Tensor:
    """The orthonormal Walsh-Hadamard transform of a vector whose length is a power of two, in place."""
    half = 1
    while half < x.numel():
        one, other = x.view(-1, 2, half).unbind(1)
        one.add_(other)
        other.mul_(-2).add_(one)  # one - other, without a temporary
        half *= 2
    scale: float = x.numel() ** 0.5
    return x.div_(scale)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)  # on the CPU, so that every device sees the same map


def _order(n: int, draw: torch.Generator, device: torch.device) -> Tensor:
    return torch.randperm(n, generator=draw, dtype=torch.int32 if n < 2**31 else torch.int64).to(device)


def _blocks(n: int, length: int, draw: torch.Generator, like: Tensor) -> Iterator[tuple[int, int, Tensor, Tensor]]:
    """Start and length of each block of the output, its signs as int8 and its order; the caller draws its scales."""
    for start in range(0, length, n):
        signs = torch.randint(0, 2, (n,), generator=draw, dtype=torch.int8).mul_(2).sub_(1).to(like.device)
        yield start, min(n, length - start), signs, _order(n, draw, like.device)


def _scales(n: int, draw: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(n, generator=draw).to(like.device, like.dtype)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, length: int, seed: int) -> Tensor:
        n, size = 1 << max(0, x.numel() - 1).bit_length(), x.numel()
        ctx.settings = n, length, seed, size
        draw, out = _generator(seed), x.new_empty(length)
        for start, count, signs, order in _blocks(n, length, draw, x):
            work = x.new_zeros(n)
            torch.mul(x, signs[:size], out=work[:size])
            del signs
            work = hadamard_(work).index_select(0, order)
            del order
            work.mul_(_scales(n, draw, x))
            out[start : start + count] = hadamard_(work)[:count]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        n, length, seed, size = ctx.settings
        draw, out = _generator(seed), grad.new_zeros(size)
        for start, count, signs, order in _blocks(n, length, draw, grad):
            work = grad.new_zeros(n)
            work[:count] = grad[start : start + count]
            hadamard_(work).mul_(_scales(n, draw, grad))
            work = grad.new_zeros(n).index_add_(0, order, work)
            out.addcmul_(hadamard_(work)[:size], signs[:size])
        return out, None, None


def project(x: Tensor, length: int, seed: int) -> Tensor:
    """A fixed linear map of (m,) to (length,): blocks H G P H S (fastfood), cut to the length.

    S are random signs, P a permutation, G Gaussian scales, H orthonormal Hadamard on the next power of two n, to
    which x is padded. Entries have variance 1/n. Everything is drawn again from `seed` at each call; a block takes the
    memory of three vectors of n.
    """
    out: Tensor = _Project.apply(x, length, seed)
    return out


class _Shuffle(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int) -> Tensor:
        ctx.seed = seed
        return x.index_select(0, _order(x.numel(), _generator(seed), x.device))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return torch.zeros_like(grad).index_add_(0, _order(grad.numel(), _generator(ctx.seed), grad.device), grad), None


def shuffle(x: Tensor, seed: int) -> Tensor:
    """The entries of a vector in a fixed random order, drawn again from `seed` at each call."""
    out: Tensor = _Shuffle.apply(x, seed)
    return out
