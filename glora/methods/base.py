"""What every method offers: attach, say what trains, count it, merge, save and load only itself."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from glora.state import find_classifier, load_trained, parameters_of, trained_state


class Method(ABC):
    """An adaptation of `model`, made in place by the constructor; everything that does not train is frozen."""

    name: ClassVar[str]
    searched: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.head = find_classifier(model)

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Weight and bias of the classifier by full name; found by identity, never by a name."""
        return parameters_of(self.model, self.head)

    @abstractmethod
    def trainable(self) -> dict[str, nn.Parameter]:
        """What trains, by full name, the head included."""

    def params(self) -> int:
        """Trainable parameters, head not counted."""
        head = self.head_parameters()
        return sum(p.numel() for n, p in self.trainable().items() if n not in head)

    def before_step(self, rng: random.Random) -> None:  # noqa: B027 (a hook that most methods leave empty)
        """Called before every training step; a supernet draws its subnet here."""

    @abstractmethod
    def merge(self) -> nn.Module:
        """A plain model of the original architecture that computes the same function."""

    def state_dict(self) -> dict[str, Tensor]:
        """Only what was trained, as detached CPU copies."""
        return trained_state(self.trainable())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state_dict`. Raises ValueError, changing nothing, if the tensors do not fit."""
        load_trained(self.trainable(), state)
