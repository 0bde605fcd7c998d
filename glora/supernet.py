"""The supernet: a model whose linear layers hold all options; sample, set, merge, save and load.

    supernet = Supernet(model, ranks=[8, 4])      # every nn.Linear but the classifier
    supernet.set(supernet.space.sample(rng))
    loss = criterion(model(images), labels)
    plain = supernet.merge(subnet)                # a plain copy, no adapter left

Its layers are in `glora.linear`, its subnets in `glora.space`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from glora.attach import added_to_in_place, call_every_linear, plain_copy, replace_module
from glora.conv import GLoRAConv2d
from glora.fold import fold_gained_biases
from glora.gates import Choice, gate_table, gates_length
from glora.linear import GLoRALinear
from glora.options import check_ranks
from glora.soup import Soup
from glora.space import LayerSpec, SearchSpace, Subnet
from glora.state import find_classifier, load_trained, parameters_of, trained_state


def _owned(module: nn.Module | None) -> set[int]:
    return set() if module is None else {id(m) for m in module.modules()}


def _copy_output(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output.clone()


def _zero_where(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient.masked_fill(mask, 0)


class Supernet:
    """GLoRA attached to a model, in place.

    Args:
        model: any `nn.Module`; every `nn.Linear` outside `head` is adapted and everything but `head` is frozen.
        ranks: LoRA ranks of the space, descending, such as [8, 4].
        head: the classifier to leave alone and to train. By default what `model.get_classifier()` returns.
        convs: adapt every `nn.Conv2d` outside `head` too, the stem or patch embedding and depthwise ones included.
        tensors: which of equation 10's tensors the space holds; the others are none everywhere and do not train. With
            "AB" no layer gains a bias, so a model without biases (LLaMA's kind) merges into its own architecture.

    Raises:
        ValueError: if the ranks are not descending positive integers, nothing can be adapted or chosen, a layer is
            shared or tied to another (LLaMA's output layer to its embeddings), or the model already holds adapted
            layers. The model is as it was then.
    """

    def __init__(
        self,
        model: nn.Module,
        ranks: Sequence[int],
        head: nn.Module | None = None,
        convs: bool = False,
        tensors: str = "ABCDE",
    ) -> None:
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
        kinds: dict[type[nn.Module], type[GLoRALinear]] = {nn.Linear: GLoRALinear}
        if convs:
            kinds[nn.Conv2d] = GLoRAConv2d
        targets = [
            (name, module)
            for name, module in model.named_modules()
            if type(module) in kinds and id(module) not in skipped
        ]
        if not targets:
            names = " or ".join(f"nn.{kind.__name__}" for kind in kinds)
            hint = "" if convs or not any(type(m) is nn.Conv2d for m in model.modules()) else "; try convs=true"
            raise ValueError(f"the model has no {names} outside its classifier, so there is nothing to adapt{hint}")
        chosen = {id(module): name for name, module in targets}
        for name, module in model.named_modules(remove_duplicate=False):
            if chosen.get(id(module), name) != name:
                kind = type(module).__name__
                raise ValueError(f"{name} and {chosen[id(module)]} are one shared nn.{kind}, which cannot be adapted")
        own = {id(p): f"{name}.{leaf}" for name, module in targets for leaf, p in module.named_parameters()}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            tied = own.get(id(parameter), name)
            if tied != name:
                # Merged, the two would differ, and a model that ties them would load one of them for both.
                raise ValueError(
                    f"{tied} and {name} are one tied tensor, which cannot be adapted in one place alone; untie them, "
                    "or leave that layer alone as head="
                )
        specs = (LayerSpec(n, m.weight[0].numel(), len(m.weight), m.bias is not None) for n, m in targets)
        self.space = SearchSpace(tuple(specs), ranks, tensors)
        # Backward reads the output of an adapted layer, so nothing behind it may overwrite it.
        overwritten = {*call_every_linear(model), *added_to_in_place(model)}
        activation: Any
        for activation in model.modules():
            if getattr(activation, "inplace", False):
                activation.inplace = False
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.layers: dict[str, GLoRALinear] = {}
        for name, module in targets:
            self.layers[name] = kinds[type(module)](module, ranks[0])
            replace_module(model, name, self.layers[name])
        for name in self.layers.keys() & overwritten:
            self.layers[name].register_forward_hook(_copy_output)
        if self.head is not None:
            for parameter in self.head.parameters():
                parameter.requires_grad_(True)
        for layer in self.layers.values():
            for tensor, parameter in layer.adapter_parameters().items():
                parameter.requires_grad_(tensor[0] in tensors)
        self._current: Subnet | Soup = self.space.smallest
        self._kept: Subnet | None = None
        self._gates: Tensor | None = None
        self._learned = False

    def keep(self, subnet: Subnet) -> None:
        """Hold `subnet` alone from now on, with the weights of now: only its tensors and the head train.

        What it does not use is gone, columns of the factors too: it neither moves nor is it stored, saved or counted.
        A trainer or optimizer has to be made anew. Weights saved afterwards fit a model that keeps the same subnet.

        Raises:
            ValueError: if it is not in the space, or another one is kept already.
        """
        self.check(subnet)
        for layer, config in zip(self.layers.values(), subnet.layers, strict=True):
            layer.keep(config)
        self._kept, self._gates = subnet, None
        self._set(subnet)

    def check(self, subnet: Subnet | Soup) -> None:
        """Raise ValueError unless the model can compute `subnet`: it is in the space, and no other one is kept."""
        self.space.check(subnet)
        if self._kept not in (None, subnet):
            raise ValueError("this model keeps one subnet, and this is another; build a fresh model for it")

    def use_static_graph(self) -> None:
        """Make every layer's choice data (`glora.gates`): one graph for all subnets, as compilers and CUDA graphs want.

        Call it when the model is on its device. Without it each layer takes the branch of its choice, which saves work.
        A subnet that is kept is one graph already.
        """
        if self._kept is not None:
            return
        subnet, like = self.current, next(iter(self.layers.values())).Ad
        # One table that layers view, at one address for good: a step copies one small block and nothing else.
        shape = len(self.layers), gates_length(self.space.ranks[0])
        self._gates = torch.zeros(shape, device=like.device, dtype=like.dtype)
        for layer, row in zip(self.layers.values(), self._gates, strict=True):
            layer.use_gates(row)
        self._set(subnet)

    @property
    def current(self) -> Subnet | Soup:
        """What the model computes; while gates are learned, the soup that they are now."""
        if not self._learned:
            return self._current
        gates = [layer.gates for layer in self.layers.values()]
        return Soup(tuple(tuple(row.tolist()) for row in gates if row is not None))

    def learn_gates(self) -> dict[str, nn.Parameter]:
        """Make the gates of the current subnet or soup parameters, by full name `<layer>.gates`, until the next `set`.

        They are no part of `trainable`; train them with or without it. Gates of 0 stay so: what the soup stores does
        not grow. `current` and `merge` then give the soup of the gates as they are. Call it when the model is on its
        device, and again after `set` for new ones.

        Raises:
            ValueError: if one subnet is kept: what its gates would choose from is gone.
        """
        if self._kept is not None:
            raise ValueError("this model keeps one subnet alone and has no gates; learn those of a fresh model")
        choices: tuple[Choice, ...] = self.current.layers
        found: dict[str, nn.Parameter] = {}
        for (name, layer), choice in zip(self.layers.items(), choices, strict=True):
            gates = found[f"{name}.gates"] = nn.Parameter(layer.gate_tensor(choice))
            gates.register_hook(_zero_where(gates.detach() == 0))
            layer.use_gates(gates)
        self._learned = True
        return found

    def set(self, subnet: Subnet | Soup) -> None:
        """Make the model compute `subnet`; a soup when the model is on its device.

        Raises:
            ValueError: as `check`.
        """
        self.check(subnet)
        self._set(subnet)

    def _set(self, subnet: Subnet | Soup) -> None:
        choices: tuple[Choice, ...] = subnet.layers
        for layer, choice in zip(self.layers.values(), choices, strict=True):
            layer.config = choice
        if self._gates is not None:
            table = gate_table(choices, self.space.ranks[0], self._gates.dtype)
            if self._gates.is_cuda:
                table = table.pin_memory()
            self._gates.copy_(table, non_blocking=True)
            if self._learned:
                for layer, row in zip(self.layers.values(), self._gates, strict=True):
                    layer.use_gates(row)
        elif isinstance(subnet, Soup) or isinstance(self._current, Soup) or self._learned:
            for layer, choice in zip(self.layers.values(), choices, strict=True):
                layer.use_gates(layer.gate_tensor(choice) if isinstance(choice, tuple) else None)
        self._current, self._learned = subnet, False

    def sample(self, rng: random.Random) -> Subnet:
        """Draw every layer independently and uniformly, set it and return it (one training step's choice).

        Where a subnet is kept, that is the only one.
        """
        subnet = self._kept or self.space.sample(rng)
        self._set(subnet)
        return subnet

    def trainable(self) -> dict[str, nn.Parameter]:
        """What trains, by full name: all support tensors and the head."""
        named = {
            f"{name}.{tensor}": parameter
            for name, layer in self.layers.items()
            for tensor, parameter in layer.adapter_parameters().items()
            if tensor[0] in self.space.tensors
        }
        return {**named, **parameters_of(self.model, self.head)}

    def stored_params(self) -> int:
        """Support tensors that train, head not counted. Equals the parameters of the largest subnet, or of the kept."""
        head = {id(p) for p in parameters_of(self.model, self.head).values()}
        return sum(p.numel() for p in self.trainable().values() if id(p) not in head)

    def state_dict(self) -> dict[str, Tensor]:
        """Only what was trained, as detached copies on the CPU."""
        return trained_state(self.trainable())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state_dict`. Raises ValueError, changing nothing, if the tensors do not fit."""
        load_trained(self.trainable(), state)

    def merge(self, subnet: Subnet | Soup | None = None) -> nn.Module:
        """A plain copy of the model that computes `subnet` (default: the current one), without any adapter.

        A layer without bias that gains one through C or E keeps its architecture: the bias goes into the LayerNorm
        that feeds it (Swin's patch merging) where there is one, else the layer gets a bias of its own.
        """
        if subnet is None:
            subnet = self.current  # checked when it was set
        else:
            self.check(subnet)
        plain = self._plain(subnet)
        gained = [n for n, m in self.layers.items() if m.bias is None and plain.get_submodule(n).bias is not None]
        fold_gained_biases(plain, gained)
        return plain

    def skeleton(self) -> nn.Module:
        """A copy of the model with plain linear layers that carry the frozen weights."""
        return self._plain(self.space.smallest)

    def _plain(self, subnet: Subnet | Soup) -> nn.Module:
        """A frozen copy of the model with every adapted layer merged, gained biases where they arose."""
        merged: dict[str, nn.Module] = {}
        choices: tuple[Choice, ...] = subnet.layers
        for (name, layer), config in zip(self.layers.items(), choices, strict=True):
            merged[name] = layer.merge(config).train(layer.training)
        return plain_copy(self.model, merged)
