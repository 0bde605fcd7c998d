"""The supernet: a model whose linear layers hold all options; sample, set, merge, save and load.

supernet = Supernet(model, ranks=[8, 4])      # every nn.Linear but the classifier
supernet.set(supernet.space.sample(rng))
loss = criterion(model(images), labels)
plain = supernet.merge(subnet)                # a plain copy, no adapter left
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glora.linear import GLoRALinear
from glora.options import check_ranks
from glora.space import LayerSpec, SearchSpace, Subnet


def find_classifier(model: nn.Module) -> nn.Module | None:
    """The classifier as the model itself names it (timm's `get_classifier`), or None if it names none."""
    getter = getattr(model, "get_classifier", None)
    return getter() if callable(getter) else None


def _owned(module: nn.Module | None) -> set[int]:
    return set() if module is None else {id(m) for m in module.modules()}


def replace_module(model: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where the dotted `name` points."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, new)


class Supernet:
    """GLoRA attached to a model, in place.

    Args:
        model: any `nn.Module`; every `nn.Linear` outside `head` is adapted and everything but `head` is frozen.
        ranks: LoRA ranks of the space, descending, such as [8, 4].
        head: the classifier to leave alone and to train. By default what `model.get_classifier()` returns.

    Raises:
        ValueError: if the ranks are not descending positive integers, nothing can be adapted, or the model already
            holds adapted layers.
    """

    def __init__(self, model: nn.Module, ranks: Sequence[int], head: nn.Module | None = None) -> None:
        self.model = model
        ranks = check_ranks(ranks)
        self.head = find_classifier(model) if head is None else head
        if any(isinstance(m, GLoRALinear) for m in model.modules()):
            raise ValueError("this model is adapted already; build a fresh one or merge it first")
        skipped = _owned(self.head)
        # nn.MultiheadAttention reads its projection's weight directly, so an adapted layer there would be bypassed.
        for module in model.modules():
            if isinstance(module, nn.MultiheadAttention):
                skipped |= _owned(module)
        targets = [
            (name, module)
            for name, module in model.named_modules()
            if type(module) is nn.Linear and id(module) not in skipped
        ]
        if not targets:
            raise ValueError("the model has no nn.Linear outside its classifier, so there is nothing to adapt")
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.layers: dict[str, GLoRALinear] = {}
        for name, module in targets:
            self.layers[name] = GLoRALinear(module, ranks[0])
            replace_module(model, name, self.layers[name])
        if self.head is not None:
            for parameter in self.head.parameters():
                parameter.requires_grad_(True)
        specs = (LayerSpec(n, m.in_features, m.out_features, m.bias is not None) for n, m in self.layers.items())
        self.space = SearchSpace(tuple(specs), ranks)
        self.current = self.space.smallest

    def set(self, subnet: Subnet) -> None:
        """Make the model compute `subnet`. Raises ValueError if it is not in the space."""
        self.space.check(subnet)
        self._set(subnet)

    def _set(self, subnet: Subnet) -> None:
        for layer, config in zip(self.layers.values(), subnet.layers, strict=True):
            layer.config = config
        self.current = subnet

    def sample(self, rng: random.Random) -> Subnet:
        """Draw every layer independently and uniformly, set it and return it (one training step's choice)."""
        subnet = self.space.sample(rng)
        self._set(subnet)
        return subnet

    def _head_state(self) -> dict[str, nn.Parameter]:
        if self.head is None:
            return {}
        owned = {id(p) for p in self.head.parameters()}
        return {n: p for n, p in self.model.named_parameters() if id(p) in owned}

    def trainable(self) -> dict[str, nn.Parameter]:
        """What trains, by full name: all support tensors and the head."""
        named = {f"{n}.{t}": p for n, layer in self.layers.items() for t, p in layer.adapter_parameters().items()}
        return {**named, **self._head_state()}

    def stored_params(self) -> int:
        """Support tensors stored, head not counted. Equals the largest subnet's parameters."""
        return sum(p.numel() for layer in self.layers.values() for p in layer.adapter_parameters().values())

    def state_dict(self) -> dict[str, Tensor]:
        """Only what was trained, as detached copies on the CPU."""
        return {n: p.detach().cpu().clone() for n, p in self.trainable().items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Inverse of `state_dict`.

        Raises:
            ValueError: naming the missing, unexpected or wrongly shaped tensors; nothing is changed then.
        """
        own = self.trainable()
        missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        shapes = [
            f"{n} {tuple(state[n].shape)} for {tuple(own[n].shape)}"
            for n in own.keys() & state.keys()
            if own[n].shape != state[n].shape
        ]
        if missing or extra or shapes:
            raise ValueError(
                f"these weights do not fit this model: missing {missing[:3]}, unexpected {extra[:3]}, "
                f"other shapes {shapes[:3]}; check backbone, ranks and the number of classes"
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def merge(self, subnet: Subnet | None = None) -> nn.Module:
        """A plain copy of the model that computes `subnet` (default: the current one), without any adapter.

        A layer without bias that gains one through C or E keeps its architecture: the bias goes into the LayerNorm
        that feeds it (Swin's patch merging) where there is one, else the layer gets a bias of its own.
        """
        from glora.merge import fold_gained_biases

        subnet = self.current if subnet is None else subnet
        self.space.check(subnet)
        plain = self.skeleton()
        gained: list[str] = []
        for (name, layer), config in zip(self.layers.items(), subnet.layers, strict=True):
            merged = layer.merge(config)
            merged.train(layer.training)
            replace_module(plain, name, merged)
            if layer.bias is None and merged.bias is not None:
                gained.append(name)
        fold_gained_biases(plain, gained)
        return plain

    def skeleton(self) -> nn.Module:
        """A copy of the model with plain linear layers that carry the frozen weights."""
        memo = {id(layer): nn.Identity() for layer in self.layers.values()}
        plain = copy.deepcopy(self.model, memo)
        for name, layer in self.layers.items():
            replace_module(plain, name, layer.merge(self.space.smallest.layers[0]))
        plain.requires_grad_(False)
        return plain
