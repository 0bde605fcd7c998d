"""Where methods attach: the transformer blocks of a timm ViT or Swin found by structure, and module replacement."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


class NotDefined(ValueError):
    """The method has no meaning on this model; the message says why."""


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the dotted `name` points."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


def plain_copy(model: nn.Module, replaced: Mapping[str, nn.Module]) -> nn.Module:
    """A frozen copy of the model in which the modules named in `replaced` are the given plain ones."""
    memo: dict[int, Any] = {id(model.get_submodule(name)): new for name, new in replaced.items()}
    return copy.deepcopy(model, memo).requires_grad_(False)


def call_every_linear(model: nn.Module) -> list[str]:
    """Make attention that reads its qkv weight directly call the layer, so that what is attached there takes part.

    timm's BEiT, EVA and SwinV2 keep the biases of q and v outside of qkv and compute F.linear(x, qkv.weight, biases);
    their switch `qkv_bias_separate` adds the biases to qkv(x) in place, the same function. qkv then counts as a layer
    without bias. Returns the names of those layers.

    Raises:
        NotDefined: if there is no such switch; the model is as it was then.
    """
    found = {
        f"{name}.qkv": module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "qkv", None), nn.Linear) and getattr(module, "q_bias", None) is not None
    }
    for name, module in found.items():
        if not hasattr(module, "qkv_bias_separate"):
            raise NotDefined(f"{name}: its weight is read directly, so that adapters there have no effect")
    attention: Any
    for attention in found.values():
        attention.qkv_bias_separate = True
    return list(found)


def added_to_in_place(model: nn.Module) -> list[str]:
    """Names of the linear layers whose output timm's NaFlexViT adds its position embeddings to in place."""
    parts = {n: m for n, m in model.named_modules() if type(m).__name__ == "NaFlexEmbeds"}
    return [f"{name}.proj" for name, part in parts.items() if isinstance(part.proj, nn.Linear)]


@dataclass(frozen=True)
class Block:
    """One pre-norm transformer block: its dotted name, its module and its width (channels of the residual stream)."""

    name: str
    module: Any
    width: int

    def linear(self, part: str) -> tuple[str, nn.Linear]:
        """Full name and module of "attn.qkv", "attn.proj", "mlp.fc1" or "mlp.fc2"."""
        found = self.module.get_submodule(part)
        assert isinstance(found, nn.Linear)
        return f"{self.name}.{part}", found


LINEARS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def find_blocks(model: nn.Module, method: str) -> list[Block]:
    """The blocks of a timm ViT or Swin, in order: modules with norm1, attn.qkv, attn.proj, norm2, mlp.fc1, mlp.fc2.

    Raises:
        NotDefined: if the model has none.
    """
    found = []
    for name, module in model.named_modules():
        parts = dict(module.named_modules())
        if all(isinstance(parts.get(p), nn.Linear) for p in LINEARS) and {"norm1", "norm2"} <= parts.keys():
            qkv = parts["attn.qkv"]
            assert isinstance(qkv, nn.Linear)
            if qkv.out_features == 3 * qkv.in_features:
                found.append(Block(name, module, qkv.in_features))
    if not found:
        raise NotDefined(
            f"method={method} is defined on timm ViTs and Swins, whose blocks hold attn.qkv, attn.proj, mlp.fc1 and "
            f"mlp.fc2; {type(model).__name__} has no such block"
        )
    return found


class Adapted(nn.Module):
    """A linear layer with something added: keeps the frozen `weight` and `bias` of the layer under their names."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = base.weight, base.bias
        self.in_features, self.out_features = base.in_features, base.out_features

    def tensor(self, *shape: int) -> nn.Parameter:
        """A new zero parameter on the layer's device, of its dtype."""
        return nn.Parameter(self.weight.detach().new_zeros(shape))

    def merged(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of the plain layer that computes the same function."""
        raise NotImplementedError

    def merge(self) -> nn.Linear:
        """That layer."""
        weight, bias = self.merged()
        return plain_linear(weight, bias)


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` that holds these tensors, detached."""
    plain = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    plain.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
    if bias is not None:
        plain.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
    return plain


def named_outside(model: nn.Module, part: nn.Module | None) -> Iterator[tuple[str, nn.Module]]:
    """Named modules of the model that are not inside `part` (the classifier), by identity."""
    inside = set() if part is None else {id(m) for m in part.modules()}
    return ((n, m) for n, m in model.named_modules() if id(m) not in inside)
