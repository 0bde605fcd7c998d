"""Full fine-tuning: every parameter trains."""

from __future__ import annotations

from torch import nn

from glora.attach import plain_copy
from glora.methods.base import Method


class Full(Method):
    """Nothing is frozen and nothing added."""

    name = "full"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        model.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters."""
        return dict(self.model.named_parameters())

    def merge(self) -> nn.Module:
        """A plain copy; nothing was added."""
        return plain_copy(self.model, {})
