"""What was trained, and only that: found by ownership, saved as copies, loaded whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from safetensors.torch import save
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


def digest(tensors: Mapping[str, Tensor]) -> str:
    """sha256 (hex) over names, dtypes, shapes and bytes of the tensors, in the order of their names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file with these tensors and, in its metadata, their digest as `sha256`."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    made = save(plain)
    start = 8 + int.from_bytes(made[:8], "little")
    # The library writes metadata in an order that changes from call to call; equal tensors are to be equal files.
    header = {"__metadata__": {"format": "pt", "sha256": digest(plain)}, **json.loads(made[8:start])}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + made[start:]


def check_trained(named: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Raise ValueError naming the tensors unless `state` has those of `named`, alike in shape and dtype, and finite."""
    missing, extra = sorted(named.keys() - state.keys()), sorted(state.keys() - named.keys())
    both = sorted(named.keys() & state.keys())
    shapes = [
        f"{n} {tuple(state[n].shape)} for {tuple(named[n].shape)}" for n in both if named[n].shape != state[n].shape
    ]
    shapes += [f"{n} {state[n].dtype} for {named[n].dtype}" for n in both if named[n].dtype != state[n].dtype]
    if missing or extra or shapes:
        raise ValueError(
            f"these weights do not fit this model: missing {missing[:3]}, unexpected {extra[:3]}, of another kind "
            f"{shapes[:3]}; check backbone, method, ranks and the number of classes"
        )
    infinite = [n for n in both if not state[n].isfinite().all()]
    if infinite:
        raise ValueError(f"these weights are not finite (NaN or infinite): {infinite[:3]}")


def load_trained(named: Mapping[str, nn.Parameter], state: Mapping[str, Tensor]) -> None:
    """Copy `state` into the parameters.

    Raises:
        ValueError: changing nothing, if `state` does not fit, see `check_trained`.
    """
    check_trained(named, state)
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(state[name])
