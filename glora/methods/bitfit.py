"""BitFit (arXiv 2106.10199): every bias of the backbone trains, in linear, convolution and normalisation layers."""

from __future__ import annotations

from torch import nn

from glora.attach import NotDefined, named_outside, plain_copy
from glora.methods.base import Method


class BitFit(Method):
    """The biases move from their pre-trained values; Swin's tables of relative positions are no biases of a layer."""

    name = "bitfit"
    label = "BitFit"
    paper_rows = {"table1": ("bitfit",), "table5": ("bitfit",)}
    known_params = {"vit_b16": 102_912, "swin_b": 137_216}

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.biases: dict[str, nn.Parameter] = {}
        for name, module in named_outside(model, self.head):
            for leaf in ("bias", "q_bias", "v_bias"):  # BEiT's kind keeps those of q and v in the attention
                bias = getattr(module, leaf, None)
                if isinstance(bias, nn.Parameter):
                    self.biases[f"{name}.{leaf}"] = bias
        if not self.biases:
            raise NotDefined(f"method=bitfit trains biases, and {type(model).__name__} has none")
        for bias in self.biases.values():
            bias.requires_grad_(True)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Every bias, and the head."""
        return self.biases | self.head_parameters()

    def merge(self) -> nn.Module:
        """A plain copy; nothing was added."""
        return plain_copy(self.model, {})
