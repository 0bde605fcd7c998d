"""A moving average of the weights that train, evaluated and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from glora.state import load_trained, trained_state


class WeightAverage:
    """Exponential moving average of parameters: a <- decay a + (1 - decay) p after every step, from their start on.

    Polyak and Juditsky (1992) as deep learning uses it: timm's `ModelEma`, without a warm-up.

    Args:
        parameters: what trains, by name.
        decay: in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self._averages = {n: nn.Parameter(p.detach().clone(), requires_grad=False) for n, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        for name, average in self._averages.items():
            average.lerp_(self.parameters[name], 1 - self.decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within it the parameters hold their average; behind it what they held before."""
        held = {n: p.detach().clone() for n, p in self.parameters.items()}
        load_trained(self.parameters, self._averages)
        try:
            yield
        finally:
            load_trained(self.parameters, held)

    def state(self) -> dict[str, Tensor]:
        """The averages, as copies on the CPU."""
        return trained_state(self._averages)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state`. Raises ValueError, changing nothing, if the tensors do not fit."""
        load_trained(self._averages, state)
