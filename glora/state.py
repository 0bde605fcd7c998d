"""What was trained, and only that: found by ownership, saved as copies, loaded whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def find_classifier(model: nn.Module) -> nn.Module | None:
    """The classifier as the model itself names it (timm's `get_classifier`), or None if it names none.

    A model with several heads (a distilled ViT's `head` and `head_dist`) gives them as one `nn.ModuleList`, a holder
    that cannot be called.
    """
    getter = getattr(model, "get_classifier", None)
    found = getter() if callable(getter) else None
    return nn.ModuleList(found) if isinstance(found, (tuple, list)) else found


def parameters_of(model: nn.Module, part: nn.Module | None) -> dict[str, nn.Parameter]:
    """The parameters of `part` under their full names in `model`; found by identity, never by a name."""
    owned = set() if part is None else {id(p) for p in part.parameters()}
    return {n: p for n, p in model.named_parameters() if id(p) in owned}


def trained_state(named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Detached copies on the CPU."""
    return {n: p.detach().cpu().clone() for n, p in named.items()}


def load_trained(named: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the parameters.

    Raises:
        ValueError: naming missing, unexpected or wrongly shaped tensors; nothing is changed then.
    """
    missing, extra = sorted(named.keys() - state.keys()), sorted(state.keys() - named.keys())
    both = sorted(named.keys() & state.keys())
    shapes = [
        f"{n} {tuple(state[n].shape)} for {tuple(named[n].shape)}" for n in both if named[n].shape != state[n].shape
    ]
    if missing or extra or shapes:
        raise ValueError(
            f"these weights do not fit this model: missing {missing[:3]}, unexpected {extra[:3]}, other shapes "
            f"{shapes[:3]}; check backbone, method, ranks and the number of classes"
        )
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(state[name])
