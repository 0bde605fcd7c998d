"""VPT (arXiv 2203.12119): trained prompt tokens beside the patches, on ViTs and on the windows of a Swin.

A block wrapper adds, carries or replaces the prompts; behind the last block they are gone, so that no pooling sees
them. ViT: they stand after class and register tokens, before the patches, without position embedding. Swin: the
prompts are copied into every window, attend there without relative position bias, and are averaged back over windows;
patch merging takes four copies of a prompt's channels. On a Swin, carried prompts travel beside the feature map, as a
pair, between wrapped modules.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer, window_partition, window_reverse
from torch import Tensor, nn

from glora.methods.added import AddedModules

Pair = tuple[Tensor, Tensor]


class Prompts(nn.Module):
    """`count` prompt tokens, uniform in +-sqrt(6 / (3 patch area + width)), with dropout."""

    def __init__(self, like: Tensor, count: int, patch_area: int, dropout: float) -> None:
        super().__init__()
        bound = math.sqrt(6 / (3 * patch_area + like.shape[0]))
        self.tokens = nn.Parameter(torch.empty_like(like).new_empty(count, like.shape[0]).uniform_(-bound, bound))
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: int) -> Tensor:
        """(batch, count, width)."""
        tokens: Tensor = self.dropout(self.tokens.expand(batch, -1, -1))
        return tokens


class PromptedBlock(nn.Module):
    """A ViT block among prompts: they enter at the first, are replaced where `prompts` is given, leave at the last."""

    def __init__(self, block: nn.Module, prompts: Prompts | None, prefix: int, count: int, first: bool, last: bool):
        super().__init__()
        self.block, self.prompts = block, prompts
        self.prefix, self.count, self.first, self.last = prefix, count, first, last

    def forward(self, x: Tensor) -> Tensor:
        """(B, tokens, d); the prompts are tokens prefix to prefix + count, except before the first block."""
        k, after = self.prefix, self.prefix if self.first else self.prefix + self.count
        if self.prompts is not None:
            x = torch.cat([x[:, :k], self.prompts(len(x)), x[:, after:]], 1)
        x = self.block(x)
        return torch.cat([x[:, :k], x[:, k + self.count :]], 1) if self.last else x


def window_attention(block: Any, prompts: Tensor, x: Tensor) -> Pair:
    """Shifted-window attention with the prompts in every window.

    Args:
        block: timm's Swin block; its shift, window, mask and weights are used.
        prompts: (B, p, C), normed.
        x: (B, H, W, C), normed.

    Returns:
        Prompts averaged over windows, and the map, same shapes.
    """
    attn, size, shift = block.attn, block.window_size, block.shift_size
    (b, h, w, c), p = x.shape, prompts.shape[1]
    x = torch.roll(x, (-shift[0], -shift[1]), (1, 2)) if any(shift) else x
    x = F.pad(x, (0, 0, 0, -w % size[1], 0, -h % size[0]))
    high, wide = x.shape[1:3]
    mask = block.get_attn_mask(x) if block.dynamic_mask else block.attn_mask
    windows = window_partition(x, size).view(b, -1, block.window_area, c)  # batch-major
    count = windows.shape[1]
    tokens = torch.cat([prompts[:, None].expand(-1, count, -1, -1), windows], 2)  # (B, windows, p + area, C)
    q, k, v = attn.qkv(tokens).unflatten(-1, (3, attn.num_heads, -1)).permute(3, 0, 1, 4, 2, 5)
    bias = attn._get_rel_pos_bias()  # (1, heads, area, area)
    bias = bias if mask is None else bias + mask[:, None].to(bias.dtype)
    bias = F.pad(bias, (p, 0, p, 0))  # none for prompts
    drop = attn.attn_drop.p if attn.training else 0.0
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=drop)
    out = attn.proj_drop(attn.proj(out.transpose(2, 3).flatten(3)))
    x = window_reverse(out[:, :, p:].reshape(-1, *size, c), size, high, wide)[:, :h, :w]
    return out[:, :, :p].mean(1), torch.roll(x, shift, (1, 2)) if any(shift) else x


class PromptedWindowBlock(nn.Module):
    """A Swin block among prompts: its own, or those that come with the map; it passes them on only if `carry`."""

    def __init__(self, block: nn.Module, prompts: Prompts | None, carry: bool) -> None:
        super().__init__()
        self.block, self.prompts, self.carry = block, prompts, carry

    def forward(self, x: Tensor | Pair) -> Tensor | Pair:
        """(B, H, W, C), or a pair of prompts (B, p, C) and that."""
        block: Any = self.block
        if isinstance(x, Tensor):
            assert self.prompts is not None
            prompts, image = self.prompts(len(x)), x
        else:
            prompts, image = x
        attended, mixed = window_attention(block, block.norm1(prompts), block.norm1(image))
        (b, h, w, c), p = image.shape, prompts.shape[1]
        # one sequence from here on, so that drop path drops a sample's prompts and patches together
        tokens = torch.cat([prompts, image.reshape(b, -1, c)], 1)
        tokens = tokens + block.drop_path1(torch.cat([attended, mixed.reshape(b, -1, c)], 1))
        tokens = tokens + block.drop_path2(block.mlp(block.norm2(tokens)))
        image = tokens[:, p:].reshape(b, h, w, c)
        return (tokens[:, :p], image) if self.carry else image


class PromptedMerging(nn.Module):
    """Patch merging for a pair: four copies of a prompt's channels take the place of four patches."""

    def __init__(self, merging: nn.Module) -> None:
        super().__init__()
        self.merging = merging

    def forward(self, x: Pair) -> Pair:
        """Prompts (B, p, C) and map (B, H, W, C) to (B, p, C') and (B, H/2, W/2, C')."""
        merging: Any = self.merging
        return merging.reduction(merging.norm(x[0].repeat(1, 1, 4))), merging(x[1])


class VisualPrompts(AddedModules):
    """What both forms share.

    Args:
        model: a timm ViT or Swin.
        prompts: tokens per set; the published grid is 1, 5, 10, 50, 100, 200.
        dropout: on the prompts.
        vpt_head: start the head as VPT's own code does (kaiming-normal fan-out, bias -ln 99) instead of as it is.
    """

    deep: ClassVar[bool]
    eval_backbone = True
    reason = "prompts are extra tokens that change every attention's normaliser; no weight or bias stands for them"

    def __init__(self, model: nn.Module, prompts: int, dropout: float = 0.0, vpt_head: bool = False) -> None:
        if prompts < 1:
            raise ValueError(f"prompts is {prompts}; it must be at least 1")
        super().__init__(model)
        body: Any = model
        size = body.patch_embed.patch_size
        total, index = sum(map(len, self.lists)), 0
        for stage, blocks in enumerate(self.lists):
            for i, child in enumerate(blocks):
                block: Any = child
                first, last = index == 0, index == total - 1
                own = None
                if self.deep or first:
                    own = Prompts(block.norm2.weight, prompts, size[0] * size[1], dropout)
                    self.parts.append(own)
                if isinstance(model, SwinTransformer):
                    blocks[i] = PromptedWindowBlock(block, own, carry=not (self.deep or last))
                else:
                    blocks[i] = PromptedBlock(block, own, body.num_prefix_tokens, prompts, first, last)
                index += 1
            if isinstance(model, SwinTransformer) and not self.deep and stage > 0:
                body.layers[stage].downsample = PromptedMerging(body.layers[stage].downsample)
        if vpt_head and isinstance(self.head, nn.Linear):
            nn.init.kaiming_normal_(self.head.weight, mode="fan_out")
            nn.init.constant_(self.head.bias, -math.log(99))

    def before_step(self, rng: Any) -> None:
        """The backbone stays in eval mode while the prompts' dropout trains, as in VPT's own code."""
        self.model.eval()
        for part in self.parts:
            part.train()
