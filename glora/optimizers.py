"""The optimiser of a recipe, and whether a stored state is one of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from glora.recipe import Recipe

SCHEDULED = ("lr", "initial_lr")
"""What every epoch sets anew."""


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], recipe: Recipe, no_decay: Collection[str] = ()
) -> torch.optim.Optimizer:
    """The recipe's optimiser; `no_decay` names parameters without weight decay, whatever the recipe says."""
    free = {n for n, p in parameters.items() if n in no_decay or (not recipe.decay_1d and p.dim() < 2)}
    groups = [{"params": [p for n, p in parameters.items() if n not in free], "weight_decay": recipe.weight_decay}]
    if free:
        groups.append({"params": [p for n, p in parameters.items() if n in free], "weight_decay": 0.0})
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=recipe.lr)


def check_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], steps: int, whole: bool) -> None:
    """Raise ValueError unless `state` is one that `optimizer` can have reached in `steps` steps.

    Its groups must have the same members and settings, its tensors the shapes of their parameters and finite values.
    With `whole` every parameter must have some. What `Optimizer.load_state_dict` takes without a word is more.
    """
    mine, theirs = optimizer.state_dict()["param_groups"], state["param_groups"]
    if [group["params"] for group in mine] != [group["params"] for group in theirs]:
        raise ValueError("the optimizer has other parameters")
    for group, other in zip(mine, theirs, strict=True):
        changed = sorted(k for k in group.keys() & other.keys() if k not in SCHEDULED and group[k] != other[k])
        if changed:
            raise ValueError(f"the optimizer has another {changed[0]}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    known = set(range(len(parameters)))
    if not state["state"].keys() <= known or (whole and state["state"].keys() != known):
        raise ValueError("the optimizer has other parameters")
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if value is None:  # the momentum before the first step
                continue
            number = name == "step"
            like = torch.empty(()) if number else parameters[index]
            if not (isinstance(value, Tensor) and value.shape == like.shape and value.dtype == like.dtype):
                raise ValueError(f"the optimizer's {name} does not fit its parameter")
            if not value.isfinite().all() or (number and not 0 < value <= steps):
                raise ValueError(f"the optimizer's {name} is out of range")
            if name == "exp_avg_sq" and (value < 0).any():
                raise ValueError(f"the optimizer's {name} is negative")


def on_cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimiser's state with its tensors on the CPU, where another process reads them."""
    entries = {
        index: {name: value.cpu() if isinstance(value, Tensor) else value for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    return {**state, "state": entries}
