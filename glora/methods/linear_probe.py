"""Linear probe: only the classifier trains. It is GLoRA with every option none."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from glora.methods.base import Method


class Linear(Method):
    """The frozen backbone with a trained head."""

    name = "linear"
    label = "Linear"
    group = "traditional"
    paper_rows = {"table1": ("linear",), "table5": ("linear",)}
    known_params = {"vit_b16": 0, "swin_b": 0}
    eval_backbone = True

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        if self.head is None:
            raise ValueError("a linear probe needs a model that names its classifier through get_classifier()")

    def trainable(self) -> dict[str, nn.Parameter]:
        """The classifier's tensors by full name: nothing else trains."""
        return self.head_parameters()

    @torch.no_grad()
    def reads_features(self, inputs: Tensor) -> bool:
        """Whether the classifier of `features` gives the model's logits for `inputs`, (N, 3, H, W) normalised.

        Not so where there are two classifiers, or where something comes between: then only whole images can train.
        """
        model: Any = self.model.eval()
        expected = model(inputs)
        if self.head is None or isinstance(self.head, nn.ModuleList):
            return False
        try:
            found = self.head(model.forward_head(model.forward_features(inputs), pre_logits=True))
        except (RuntimeError, IndexError, TypeError, ValueError):  # a classifier that pools by itself, say
            return False
        return found.shape == expected.shape and bool(torch.allclose(found, expected, rtol=1e-3, atol=1e-4))

    @torch.no_grad()
    def features(self, images: Tensor, prepare: Callable[[Tensor], Tensor], batch: int = 256) -> Tensor:
        """What the classifier sees, (N, width) float32, in eval mode; uint8 images (N, 3, H, W) in."""
        model: Any = self.model.eval()
        parts = [
            model.forward_head(model.forward_features(prepare(images[i : i + batch])), pre_logits=True)
            for i in range(0, len(images), batch)
        ]
        return torch.cat(parts)

    def merge(self) -> nn.Module:
        """A plain copy; nothing was added."""
        return copy.deepcopy(self.model)
