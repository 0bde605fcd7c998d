"""RepAdapter (arXiv 2302.08106): a linear bottleneck with a grouped expansion before qkv and before fc1."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.attach import Adapted, find_blocks
from glora.methods.base import AdaptedLinears

PLACES = {"block": ("attn.qkv", "mlp.fc1"), "attention": ("attn.qkv",)}


class RepAdapterLinear(Adapted):
    """y = W0 (x + s (W_up Drop(W_down x + b_down) + b_up)) + b0; W_up is block-diagonal with `groups` blocks."""

    def __init__(self, base: nn.Linear, hidden: int, groups: int, scale: float, dropout: float) -> None:
        super().__init__(base)
        d = self.in_features
        self.scale, self.dropout, self.groups = scale, dropout, groups
        self.down, self.down_bias = self.tensor(hidden, d), self.tensor(hidden)
        self.up, self.up_bias = self.tensor(groups, d // groups, hidden // groups), self.tensor(d)
        nn.init.xavier_uniform_(self.down)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2)."""
        h = F.dropout(F.linear(x, self.down, self.down_bias), self.dropout, self.training)
        h = h.reshape(*h.shape[:-1], self.groups, -1)
        shift = torch.einsum("...gh,gdh->...gd", h, self.up).flatten(-2) + self.up_bias
        return F.linear(x + self.scale * shift, self.weight, self.bias)

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """W0 (I + s W_up W_down) and b0 + s W0 (W_up b_down + b_up)."""
        up = torch.block_diag(*self.up)
        weight = self.weight + self.scale * (self.weight @ up) @ self.down
        gained = self.scale * self.weight @ (up @ self.down_bias + self.up_bias)
        return weight, gained if self.bias is None else self.bias + gained


class RepAdapter(AdaptedLinears[RepAdapterLinear]):
    """RepAdapter in every block.

    Args:
        place: "block", before qkv and before fc1 (Table 1), or "attention", before qkv alone.
        hidden: bottleneck width h.
        groups: blocks of the expansion; divides h and the width.
        scale: s, over the expansion and its bias.
        dropout: on the bottleneck, in training.

    Raises:
        ValueError: for an unknown place, or groups that do not divide.
        NotDefined: on a model without ViT or Swin blocks.
    """

    name = "repadapter"
    label = "RepAdapter"
    paper_rows = {"table1": ("repadapter",), "table5": ("repadapter",)}
    known_params = {"vit_b16": 239_808, "swin_b": 313_216}

    def __init__(
        self,
        model: nn.Module,
        place: str = "block",
        hidden: int = 8,
        groups: int = 2,
        scale: float = 1.0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(model)
        if place not in PLACES:
            raise ValueError(f"method=repadapter: place={place!r} is not one of {', '.join(PLACES)}")
        for block in find_blocks(model, self.name):
            if groups < 1 or hidden < 1 or hidden % groups or block.width % groups:
                raise ValueError(f"method=repadapter: groups={groups} must divide hidden={hidden} and {block.width}")
            for part in PLACES[place]:
                name, base = block.linear(part)
                self.adapt(name, RepAdapterLinear(base, hidden, groups, scale, dropout))
