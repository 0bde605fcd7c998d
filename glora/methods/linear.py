"""Linear probe: only the classifier trains. It is GLoRA with every option none."""

from __future__ import annotations

import copy

from torch import nn

from glora.methods.base import Method


class Linear(Method):
    """The frozen backbone with a trained head."""

    name = "linear"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if self.head is None:
            raise ValueError("a linear probe needs a model that names its classifier through get_classifier()")
        model.requires_grad_(False)
        for parameter in self.head.parameters():
            parameter.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """The head."""
        return self.head_parameters()

    def merge(self) -> nn.Module:
        """A plain copy; nothing was added."""
        return copy.deepcopy(self.model)
