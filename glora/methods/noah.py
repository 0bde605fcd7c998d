"""NOAH (arXiv 2206.04673): prompts, LoRA and an adapter in every block of a ViT, their widths found by a search.

A supernet stores each module at its largest width; a subnet of width k uses the first k prompts, the first k rows and
columns of LoRA's factors and the first k adapter units. The winner is retrained with fresh modules of its widths.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from glora.attach import NotDefined
from glora.methods.adapter import Bottleneck, put_after_mlp
from glora.methods.added import AddedModules
from glora.methods.base import Searched
from glora.methods.lora import LoRALinear
from glora.methods.noah_space import MODULES, NOAHSpace, NOAHSubnet
from glora.methods.noah_subnets import PUBLISHED


class TailPrompts(nn.Module):
    """`count` prompt tokens, uniform in +-sqrt(6 / (d (count + 1))) (xavier of a (1, count, d) tensor), and dropout."""

    def __init__(self, like: Tensor, count: int, dropout: float) -> None:
        super().__init__()
        bound = math.sqrt(6 / (like.shape[0] * (count + 1)))
        self.tokens = nn.Parameter(like.detach().new_empty(count, like.shape[0]).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: int, count: int) -> Tensor:
        """(batch, count, d), the first `count` prompts."""
        tokens: Tensor = self.dropout(self.tokens[:count].expand(batch, -1, -1))
        return tokens


class NOAHBlock(nn.Module):
    """A ViT block whose prompts stand behind all other tokens.

    `arriving` prompts come with the input; `own` new ones take their place, or none if `own` is 0. Behind the last
    block no prompt is left, so that no pooling sees one.
    """

    def __init__(self, block: nn.Module, prompts: TailPrompts | None, last: bool) -> None:
        super().__init__()
        self.block, self.prompts, self.last = block, prompts, last
        self.arriving = self.own = 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens + arriving, d) to (B, tokens + prompts, d); the last block gives (B, tokens, d)."""
        tokens = x.shape[1] - self.arriving
        if self.own:
            assert self.prompts is not None
            x = torch.cat([x[:, :tokens], self.prompts(len(x), self.own)], 1)
        x = self.block(x)
        return x[:, :tokens] if self.last else x


class NOAH(AddedModules, Searched[NOAHSubnet]):
    """The supernet over `NOAHSpace`, or one subnet with modules of exactly its widths.

    Args:
        model: a timm ViT.
        subnet: "search" for the supernet; or a subnet's widths, prompts | LoRA | adapter per block, such as
            "5 10 1 | 1 1 5 | 10 1 1" for three blocks. "published" stands for those of the task (`for_task`).
        dropout: on the prompts, on LoRA's input and inside the adapters.
        effective_noah_init: LoRA's factors both trunc-normal 0.02, as the source's later initialisation leaves them,
            instead of a zero W_up. The adapters are trunc-normal 0.02 in either case, and not the identity.

    Raises:
        NotDefined: for a model that is no timm ViT with pre-norm blocks.
        ValueError: for a subnet that is none, or of another number of blocks.
    """

    name = "noah"
    label = "NOAH"
    group = "searched"
    paper_rows = {"table1": ("noah",)}
    known_params = {"vit_b16": 654_456}
    retrained = True
    space: NOAHSpace
    reason = "prompts are extra tokens, and its adapters have a QuickGELU between two projections"

    def __init__(
        self, model: nn.Module, subnet: str = "search", dropout: float = 0.1, effective_noah_init: bool = False
    ) -> None:
        if isinstance(model, SwinTransformer):
            raise NotDefined(
                "method=noah is defined on ViTs, whose prompts persist from block to block, not on a Swin; choose "
                "backbone=vit_b16_in21k or another ViT"
            )
        self._fixed = None if subnet == "search" else NOAHSubnet.parse(subnet)
        super().__init__(model)
        body: Any = model
        (blocks,) = self.lists
        self.space = NOAHSpace(len(blocks), body.embed_dim)
        stored = self._fixed or self.space.largest
        if len(stored.prompt) != len(blocks):
            raise ValueError(f"method=noah: the subnet has {len(stored.prompt)} blocks, the model {len(blocks)}")
        self.layers: list[dict[str, Any]] = []
        for i, child in enumerate(blocks):
            prompt, rank, hidden = (v[i] for v in stored.vectors)
            found = self._add(child, prompt, rank, hidden, dropout, effective_noah_init)
            blocks[i] = found["block"] = NOAHBlock(child, found.get("prompt"), last=i == len(blocks) - 1)
            self.layers.append(found)
        self.current = stored
        self._set(stored)

    def _add(
        self, block: Any, prompt: int, rank: int, hidden: int, dropout: float, effective_noah_init: bool
    ) -> dict[str, Any]:
        """Put the modules of these widths into a block; those by name, without any of width 0."""
        like, found = block.norm2.weight, dict[str, Any]()
        if prompt:
            found["prompt"] = TailPrompts(like, prompt, dropout)
            self.parts.append(found["prompt"])
        if rank:
            base = block.attn.qkv
            lora = LoRALinear(base, [(0, base.out_features)], rank, 1.0, dropout, drop_input=True)
            if effective_noah_init:
                lora.init_as_noah()
            block.attn.qkv = found["lora"] = lora
            self.parts += [lora.down, lora.up]
        if hidden:
            found["adapter"] = Bottleneck(like, hidden, dropout)
            put_after_mlp(block, found["adapter"])
            self.parts.append(found["adapter"])
        return found

    @classmethod
    def row_label(cls, options: Mapping[str, Any]) -> str:
        """ "NOAH", and where its subnets come from if not from a search."""
        source = {"search": "", "published": " (published subnets)"}
        return cls.label + source.get(options["subnet"], " (given subnet)")

    @classmethod
    def searches(cls, options: Mapping[str, Any]) -> bool:
        """Unless a subnet is given."""
        return bool(options.get("subnet", "search") == "search")

    @classmethod
    def for_task(cls, options: Mapping[str, Any], task: str) -> dict[str, Any]:
        """`subnet="published"` becomes the task's. Raises ValueError if NOAH published none for it."""
        if options["subnet"] != "published":
            return dict(options)
        if task not in PUBLISHED:
            raise ValueError(f"method=noah has no published subnet for {task}; it has them for {', '.join(PUBLISHED)}")
        return {**options, "subnet": PUBLISHED[task]}

    def before_step(self, rng: random.Random) -> None:
        """A random subnet of the space, unless one is given."""
        if self._fixed is None:
            self._set(self.space.sample(rng))

    def set(self, subnet: NOAHSubnet) -> None:
        """Make the model compute `subnet`. Raises ValueError if it is not in the space, or another one was given."""
        if self._fixed not in (None, subnet):
            raise ValueError(f"this model holds the one subnet {self._fixed}")
        self.space.check(subnet)
        self._set(subnet)

    def _set(self, subnet: NOAHSubnet) -> None:
        arriving = 0
        for i, found in enumerate(self.layers):
            widths = dict(zip(MODULES, (v[i] for v in subnet.vectors), strict=True))
            for module in ("lora", "adapter"):
                if module in found:
                    found[module].active = widths[module]
            block = found["block"]
            block.arriving, block.own = arriving, widths["prompt"]
            arriving = block.own or arriving
        self.current = subnet

    def evaluator(self) -> NOAH:
        """Itself: nothing merges, and setting a subnet costs nothing."""
        return self

    def write(self, subnet: NOAHSubnet) -> nn.Module:
        """The model in eval mode, computing `subnet`."""
        self.set(subnet)
        return self.model.eval()
