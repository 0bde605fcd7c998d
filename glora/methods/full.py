"""Full fine-tuning: every parameter trains."""

from __future__ import annotations

from torch import nn

from glora.attach import plain_copy
from glora.methods.base import Method


class Full(Method):
    """Nothing is frozen and nothing added."""

    name = "full"
    label = "Full"
    group = "traditional"
    paper_rows = {"table1": ("full",), "table5": ("full",)}
    known_params = {"vit_b16": 85_798_656, "swin_b": 86_743_224}

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        model.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All parameters."""
        return dict(self.model.named_parameters())

    def merge(self) -> nn.Module:
        """A plain copy; nothing was added."""
        return plain_copy(self.model, {})
