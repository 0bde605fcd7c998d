"""A ViT's last block for the class token alone: the classifier reads no other token, so no other has to be computed.

Exact: behind the last attention every operation of a ViT acts on each token by itself. Attention there has one query
and still the keys and values of all tokens; its projection, the MLP and the norms then see one token of a sequence.
With 12 blocks that is a sixteenth of a ViT's matrix products, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn


class ClassTokenAttention(Attention):
    """timm's attention with the class token as its only query."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, d) to (B, 1, d)."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        drop = self.attn_drop.p if self.training else 0.0
        y = F.scaled_dot_product_attention(self.q_norm(q[:, :, :1]), self.k_norm(k), v, dropout_p=drop)
        y = self.norm(y.transpose(1, 2).reshape(batch, 1, -1))
        out: Tensor = self.proj_drop(self.proj(y))
        return out


class ClassTokenBlock(Block):
    """timm's pre-norm block, which gives the class token alone."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, N, d) to (B, 1, d)."""
        y = x[:, :1] + self.drop_path1(self.ls1(self.attn(self.norm1(x))))
        out: Tensor = y + self.drop_path2(self.ls2(self.mlp(self.norm2(y))))
        return out


def _last_block(model: nn.Module) -> Any:
    """The last block where the way above is known to be exact, else None; a method may have wrapped it."""
    body: Any = model
    if type(model) is not VisionTransformer or body.global_pool != "token" or body.attn_pool is not None:
        return None
    if not body.has_class_token:
        return None
    found: list[Any] = [m for m in body.blocks[-1].modules() if type(m) is Block]
    if len(found) != 1 or type(found[0].attn) is not Attention or getattr(found[0].attn, "gate", None) is not None:
        return None
    return found[0]


def compute_class_token_alone(model: nn.Module) -> bool:
    """Make the last block of a timm ViT compute the class token alone, in place; call it when a method is attached.

    Logits, pre-logits and gradients stay the same, parameters keep their names; `forward_features` gives (B, 1, d).
    A dropout on single elements inside that block draws fewer numbers than before.

    Returns:
        Whether that was possible: the model pools its class token and its last block and attention are timm's own.
        Otherwise nothing is changed.
    """
    block = _last_block(model)
    if block is not None:
        block.__class__, block.attn.__class__ = ClassTokenBlock, ClassTokenAttention
    return block is not None


def computes_class_token_alone(model: nn.Module) -> bool:
    """Whether `compute_class_token_alone` changed this model."""
    return any(isinstance(m, ClassTokenBlock) for m in model.modules())
