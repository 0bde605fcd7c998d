"""GLoRA (arXiv 2306.07967): the weight-sharing supernet over all options of equation 10."""

from __future__ import annotations

import random
from collections.abc import Sequence

from torch import nn

from glora.methods.base import Method
from glora.supernet import Supernet


class GLoRA(Method):
    """The supernet as a method; a search chooses the subnet that `merge` returns."""

    name = "glora"
    searched = True

    def __init__(self, model: nn.Module, ranks: Sequence[int] = (8, 4)) -> None:
        super().__init__(model)
        self.supernet = Supernet(model, ranks)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All stored support tensors and the head."""
        return self.supernet.trainable()

    def before_step(self, rng: random.Random) -> None:
        """An independent uniform draw per layer (paper section 3.4)."""
        self.supernet.sample(rng)

    def merge(self) -> nn.Module:
        """The current subnet as a plain model."""
        return self.supernet.merge()
