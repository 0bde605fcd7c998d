"""GLoRA (arXiv 2306.07967): the weight-sharing supernet over all options of equation 10."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import nn

from glora.evaluator import MergedEvaluator
from glora.methods.base import Searched
from glora.space import Subnet
from glora.supernet import Supernet


class GLoRA(Searched):
    """The supernet as a method; a search chooses the subnet that `merge` returns. Arguments are those of `Supernet`."""

    name = "glora"

    def __init__(
        self, model: nn.Module, ranks: Sequence[int] = (8, 4), tensors: str = "ABCDE", convs: bool = False
    ) -> None:
        super().__init__(model)
        self.supernet = Supernet(model, ranks, convs=convs, tensors=tensors)
        self.space = self.supernet.space

    def set(self, subnet: Subnet) -> None:
        """Make the model compute `subnet`. Raises ValueError if it is not in the space."""
        self.supernet.set(subnet)

    def evaluator(self) -> MergedEvaluator:
        """One plain model for all subnets."""
        return MergedEvaluator(self.supernet)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All stored support tensors and the head."""
        return self.supernet.trainable()

    def before_step(self, rng: random.Random) -> None:
        """An independent uniform draw per layer (paper section 3.4)."""
        self.supernet.sample(rng)

    def merge(self) -> nn.Module:
        """The current subnet as a plain model."""
        return self.supernet.merge()
