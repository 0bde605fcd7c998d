"""SuperLoRA (arXiv 2403.11887): the updates of many weights as groups of one long vector, each made by a small model.

dW_group = Shuffle(P(vec(F(theta)))), all groups one after the other cut back into the weights; W = W0 + alpha dW.
Built after the abstract and public parameter counts; not checked against the paper's code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.attach import LINEARS, Adapted, find_blocks, plain_copy
from glora.methods.base import AdaptedLinears
from glora.methods.superlora_factors import FactorSpec
from glora.methods.superlora_updates import Piece, Updates

GROUPINGS = ("weight", "layer", "group")
TARGETS = ("qv", "all")


class SuperLoRALinear(Adapted):
    """y = W0 x + b0 + alpha dW x, dW on the given pieces (ranges of output rows)."""

    def __init__(self, base: nn.Linear, updates: Updates, pieces: list[int], alpha: float) -> None:
        super().__init__(base)
        self._shared = (updates,)  # a tuple: the factors belong to the model, not to this layer
        self.indices, self.alpha = pieces, alpha

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2)."""
        y, out, at, (updates,) = F.linear(x, self.weight, self.bias), [], 0, self._shared
        for index in self.indices:
            piece = updates.pieces[index]
            update = self.alpha * updates.product(index, x)
            out += [y[..., at : piece.start], y[..., piece.start : piece.end] + update]
            at = piece.end
        return torch.cat([*out, y[..., at:]], -1)

    @torch.no_grad()
    def merged(self) -> tuple[Tensor, Tensor | None]:
        """W0 + alpha dW on the pieces, b0."""
        weight, (updates,) = self.weight.detach().clone(), self._shared
        for index in self.indices:
            piece = updates.pieces[index]
            weight[piece.start : piece.end].add_(updates.piece(index), alpha=self.alpha)
        return weight, self.bias


class SuperLoRA(AdaptedLinears[SuperLoRALinear]):
    """SuperLoRA on the attention's q and v, or on all linear layers, of every block.

    Args:
        grouping: "weight" (one group a matrix), "layer" (one a block) or "group" (`groups` of equal length that cut
            through matrices).
        groups: G of "group"; the last group is padded and the surplus dropped.
        factors: "lora", "kronecker" or "tucker"; `rank`, `order`, `terms`, `factor`, `fold`, `multiple` as in
            `FactorSpec`. `fold` false keeps each matrix's own shape and needs grouping="weight".
        ratio: rho; below 1 the factors make rho of a group's numbers and a fixed random map the rest.
        shuffle: put each group's numbers in a fixed random order.
        alpha: factor of dW.
        targets: "qv" or "all" (attn.qkv, attn.proj, mlp.fc1, mlp.fc2).
        seed: of the fixed maps.

    Raises:
        ValueError: for values that do not fit together.
        NotDefined: on a model without ViT or Swin blocks.
    """

    name = "superlora"
    label = "SuperLoRA"
    known_params = {"vit_b16": 27_328, "swin_b": 27_328}
    ours_on_swin = True

    def __init__(
        self,
        model: nn.Module,
        grouping: str = "group",
        groups: int = 8,
        factors: str = "tucker",
        rank: int = 8,
        order: int = 3,
        terms: int = 1,
        factor: int = -1,
        fold: bool = True,
        multiple: int = 1,
        ratio: float = 1.0,
        shuffle: bool = False,
        alpha: float = 1.0,
        targets: str = "qv",
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        try:
            spec = FactorSpec(factors, rank, order, terms, factor, fold, multiple)
        except ValueError as error:
            raise ValueError(f"method=superlora: {error}") from error
        for key, value, allowed in (("grouping", grouping, GROUPINGS), ("targets", targets, TARGETS)):
            if value not in allowed:
                raise ValueError(f"method=superlora: {key}={value!r} is not one of {', '.join(allowed)}")
        if not fold and (grouping != "weight" or ratio < 1):
            raise ValueError("method=superlora: fold=false keeps a matrix's shape; it needs grouping=weight, ratio=1")
        if not 0 < ratio <= 1:
            raise ValueError(f"method=superlora: ratio={ratio} must be above 0 and at most 1")
        pieces: list[Piece] = []
        bases: dict[str, nn.Linear] = {}
        for i, block in enumerate(find_blocks(model, self.name)):
            for part in LINEARS if targets == "all" else LINEARS[:1]:
                layer, bases_layer = block.linear(part)
                bases[layer] = bases_layer
                d = block.width
                rows = [(0, bases_layer.out_features)] if targets == "all" else [(0, d), (2 * d, 3 * d)]
                pieces += [Piece(layer, i, start, end, bases_layer.in_features) for start, end in rows]
        sizes = self._sizes(pieces, grouping, groups)
        like = next(iter(bases.values())).weight
        self.updates = Updates(pieces, sizes, spec, ratio, shuffle, seed, like)
        for layer, base in bases.items():
            own = [i for i, p in enumerate(pieces) if p.layer == layer]
            self.adapt(layer, SuperLoRALinear(base, self.updates, own, alpha))
        model.add_module("superlora", self.updates)

    @staticmethod
    def _sizes(pieces: list[Piece], grouping: str, groups: int) -> list[int]:
        if grouping == "weight":
            return [p.size for p in pieces]
        if grouping == "layer":
            blocks: dict[int, int] = {}
            for p in pieces:
                blocks[p.block] = blocks.get(p.block, 0) + p.size
            return list(blocks.values())
        total = sum(p.size for p in pieces)
        size = -(-total // max(groups, 1))
        if not 1 <= groups <= total or size * (groups - 1) >= total:
            raise ValueError(f"method=superlora: groups={groups} do not cut {total:,} numbers into equal groups")
        return [size] * groups

    def trainable(self) -> dict[str, nn.Parameter]:
        """The factors of all groups, and the head."""
        return {f"superlora.{n}": p for n, p in self.updates.named_parameters()} | self.head_parameters()

    def merge(self) -> nn.Module:
        """Every update inside its weight, without the factors."""
        plain = plain_copy(self.model, {n: layer.merge() for n, layer in self.layers.items()})
        del plain.superlora
        return plain
