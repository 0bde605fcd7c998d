"""LoRA (arXiv 2106.09685) on the attention's qkv, as in NOAH (fused) or on q and v separately."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.attach import Adapted, find_blocks
from glora.methods.base import AdaptedLinears

FORMS = ("fused_qkv", "qv")


class LoRALinear(Adapted):
    """y = W0 x + b0 + s W_up W_down x on each range of output rows, a (rank, d1) and a (rows, rank) matrix each.

    `active`, by default the rank, is how many rows of W_down and columns of W_up take part (NOAH's supernet sets it).

    Args:
        rows: ranges of outputs with factors of their own.
        drop_input: dropout on x (NOAH) instead of on W_down x.
    """

    def __init__(
        self, base: nn.Linear, rows: list[tuple[int, int]], rank: int, scale: float, dropout: float, drop_input: bool
    ) -> None:
        super().__init__(base)
        self.rows, self.scale, self.dropout, self.drop_input = rows, scale, dropout, drop_input
        self.active = rank
        self.down = nn.ParameterList([self.tensor(rank, self.in_features) for _ in rows])
        self.up = nn.ParameterList([self.tensor(end - start, rank) for start, end in rows])
        for down in self.down:
            nn.init.kaiming_uniform_(down, a=math.sqrt(5))

    def init_as_noah(self) -> None:
        """Both matrices trunc-normal 0.02, as NOAH's later initialisation leaves them."""
        for p in (*self.down, *self.up):
            nn.init.trunc_normal_(p, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2)."""
        y = F.linear(x, self.weight, self.bias)
        pieces, at = [], 0
        for (start, end), down, up in zip(self.rows, self.down, self.up, strict=True):
            z = F.dropout(x, self.dropout, self.training) if self.drop_input else x
            h = F.linear(z, down[: self.active])
            h = h if self.drop_input else F.dropout(h, self.dropout, self.training)
            pieces += [y[..., at:start], y[..., start:end] + self.scale * F.linear(h, up[:, : self.active])]
            at = end
        return torch.cat([*pieces, y[..., at:]], -1) if len(self.rows) > 1 else pieces[1]

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """W0 + s W_up W_down on the ranges, b0."""
        weight = self.weight.detach().clone()
        for (start, end), down, up in zip(self.rows, self.down, self.up, strict=True):
            weight[start:end] += self.scale * (up[:, : self.active] @ down[: self.active]).detach()
        return weight, self.bias


class LoRA(AdaptedLinears[LoRALinear]):
    """LoRA on qkv of every block.

    Args:
        form: "fused_qkv", one update over q, k and v (Table 1, from NOAH), or "qv", one each for q and v.
        rank: of each update.
        scale: its factor; NOAH has none (1).
        dropout: on the input ("fused_qkv") or on the rank-sized vector ("qv"), in training.
        effective_noah_init: both matrices trunc-normal 0.02, as NOAH's later initialisation leaves them, instead of
            a zero W_up; the model then does not start at the pre-trained function.

    Raises:
        ValueError: for an unknown form or a rank below 1.
        NotDefined: on a model without ViT or Swin blocks.
    """

    name = "lora"
    label = "LoRA"
    paper_rows = {"table1": ("lora",)}
    known_params = {"vit_b16": 294_912, "swin_b": 385_024}

    def __init__(
        self,
        model: nn.Module,
        form: str = "fused_qkv",
        rank: int = 8,
        scale: float = 1.0,
        dropout: float = 0.1,
        effective_noah_init: bool = False,
    ) -> None:
        super().__init__(model)
        if form not in FORMS or rank < 1:
            raise ValueError(f"method=lora: form={form!r} is one of {', '.join(FORMS)}, and rank={rank} at least 1")
        for block in find_blocks(model, self.name):
            name, base = block.linear("attn.qkv")
            d = block.width
            rows = [(0, 3 * d)] if form == "fused_qkv" else [(0, d), (2 * d, 3 * d)]
            layer = LoRALinear(base, rows, rank, scale, dropout, drop_input=form == "fused_qkv")
            if effective_noah_init:
                layer.init_as_noah()
            self.adapt(name, layer)
