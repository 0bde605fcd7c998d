"""One training on several processes: each computes a share of every batch, and all take the step of the whole batch.

The processes (ranks) hold the same weights and draw the same subnets, which are functions of (seed, step). Behind all
backward passes of a step one message sums the gradients, the losses and the hits over the ranks; so weights and figures
are those of one process but for rounding.

This is what `torch.nn.parallel.DistributedDataParallel` does (Li et al. 2020, arXiv 2006.15704), without its wrapper,
which does not fit such steps: it takes the mean over ranks, as if all shares were equal; what a pass does not use, it
finds by walking the graph of every forward pass (`find_unused_parameters`), while a step here trains several subnets,
each with other unused tensors, in several passes; and what it gains, the sum running beside the backward pass, is
little where a hundredth of the model trains. Where the wrapper fits, the gradients are the same
(tests/glora/test_ranks.py).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

import torch
import torch.distributed as dist
from torch import Tensor, nn

Figures = tuple[Tensor, Tensor]
"""Of one subnet: the loss () and the hits () int64; of a share the loss is weighed (`Ranks.weighed`)."""


class Lost(RuntimeError):
    """Another rank has ended, or does not answer."""


class BrokenOff(Lost):
    """Another rank ended the epoch, behind the step that this one has just taken too."""


class Ranks:
    """What a `Trainer` asks about the processes that share its batches. There is one here, and nothing to do.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank, size = 0, 1

    def share(self, batch: Tensor) -> Tensor:
        """The part of a batch (B,) that is this rank's, in the batch's order."""
        return batch

    def seed(self, seed: int, step: int) -> None:
        """Let the global generators, which drop path draws from, stand where this rank begins a step."""

    def weighed(self, loss: Tensor, share: Tensor, batch: Tensor) -> Tensor:
        """The mean loss () over a share as its part in the mean over the batch."""
        return loss

    def summed(self, parameters: Iterable[nn.Parameter], found: Sequence[Figures]) -> Sequence[Figures]:
        """Make the gradients those of the whole batch; returns its figures in place of those of this rank's share."""
        return found

    def agreed(self) -> AbstractContextManager[None]:
        """What is raised inside on one rank ends the epoch on all: the others raise `BrokenOff` as they leave it."""
        return nullcontext()


ONE = Ranks()
"""One process by itself."""


class Several(Ranks):
    """The processes of torch's default process group, which has to be there; its CPU tensors must be allowed to travel.

    Gradients that are None are None on all ranks, as these train the same subnets, and stay so.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def share(self, batch: Tensor) -> Tensor:
        """Shares differ by one image at most."""
        start, end = (len(batch) * rank // self.size for rank in (self.rank, self.rank + 1))
        return batch[start:end]

    def seed(self, seed: int, step: int) -> None:
        """A function of seed, step and rank: masks differ between ranks, and a resumed run draws them again."""
        torch.manual_seed(random.Random(f"rank-{seed}-{step}-{self.rank}").getrandbits(63))

    def weighed(self, loss: Tensor, share: Tensor, batch: Tensor) -> Tensor:
        """By the number of its images."""
        return loss * (len(share) / len(batch))

    @torch.no_grad()
    def summed(self, parameters: Iterable[nn.Parameter], found: Sequence[Figures]) -> Sequence[Figures]:
        """In one message, of the widest of their types. Raises Lost."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        parts = [*gradients, *(part for pair in found for part in pair)]
        dtype = functools.reduce(torch.promote_types, (part.dtype for part in parts))
        flat = torch.cat([part.reshape(-1).to(dtype) for part in parts])
        with reaching():
            dist.all_reduce(flat)
        whole = [piece.view_as(part) for piece, part in zip(flat.split([p.numel() for p in parts]), parts, strict=True)]
        for gradient, piece in zip(gradients, whole, strict=False):
            gradient.copy_(piece)
        figures = [piece.to(part.dtype) for piece, part in zip(whole, parts, strict=True)][len(gradients) :]
        return list(zip(figures[::2], figures[1::2], strict=True))

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A number on the CPU goes round, so that the host does not wait for a GPU."""
        try:
            yield
        except BaseException:
            with suppress(Lost):
                self._any(True)
            raise
        if self._any(False):
            raise BrokenOff("another rank ended the epoch")

    def _any(self, ended: bool) -> bool:
        flag = torch.tensor(int(ended))
        with reaching():
            dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)


@contextmanager
def reaching() -> Iterator[None]:
    """Raise Lost for what torch raises where a collective finds a rank gone."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(f"another rank has ended or does not answer: {error}") from error
