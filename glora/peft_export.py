"""Taking an adapter home as HF PEFT stores it: `PeftModel.from_pretrained(plain model, folder)` gives the same logits.

    model = timm.create_model(...)  # the untouched backbone with the same pre-trained weights and number of classes
    model = peft.PeftModel.from_pretrained(model, folder)

`merge_and_unload` of PEFT's then gives the plain model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glora.conv import GLoRAConv2d
from glora.gates import FLAGS, Choice, Row, gives_bias
from glora.linear import GLoRALinear
from glora.methods.base import Method
from glora.methods.glora import OnSupernet
from glora.methods.lora import LoRA
from glora.options import NONE, LayerConfig, Option
from glora.soup import Soup
from glora.state import to_safetensors

PREFIX = "base_model.model."


def export_peft(method: Method, folder: Path, write: Callable[[Path, bytes], object] = Path.write_bytes) -> Path:
    """Write `adapter_model.safetensors` and `adapter_config.json` of a trained `lora`, or of what GLoRA computes now.

    PEFT's layers have one kind of path for all, so a subnet is written at the largest rank: a vector as a 1^T, a scalar
    as s 1 1^T, none as zeros; C, D and E as vectors. A soup takes one rank more, for its scalars, and its gates are
    multiplied in. The classifier travels in `modules_to_save`. `write` gives a file its content.

    Raises:
        ValueError: for another method, for adapted convolutions, or for C or E on a layer without bias, which PEFT
            ignores (nothing is written).
    """
    if isinstance(method, LoRA):
        tensors, config = _lora(method)
    elif isinstance(method, OnSupernet):
        tensors, config = _glora(method)
    else:
        instead = "; take the merged model: export=merged" if method.mergeable else ", and it has no merged form either"
        raise ValueError(f"HF PEFT has no format for method={method.name}, only for lora and GLoRA{instead}")
    if method.head is not None:
        heads = list(method.head) if isinstance(method.head, nn.ModuleList) else [method.head]
        config["modules_to_save"] = [n for n, m in method.model.named_modules() if any(m is head for head in heads)]
        tensors |= {n: p.detach() for n, p in method.head_parameters().items()}
    state = {PREFIX + n: t.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)
             for n, t in tensors.items()}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "adapter_model.safetensors", to_safetensors(state))
    write(folder / "adapter_config.json", (json.dumps(config, indent=2) + "\n").encode())
    return folder


def _lora(method: LoRA) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Factors of several row ranges become one pair of rank r times the ranges."""
    tensors: dict[str, Tensor] = {}
    rank = scale = 0.0
    for name, layer in method.layers.items():
        down = torch.cat(list(layer.down))
        up, at = down.new_zeros(layer.out_features, len(down)), 0
        for (start, end), part in zip(layer.rows, layer.up, strict=True):
            up[start:end, at : at + part.shape[1]] = part.detach()
            at += part.shape[1]
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        rank, scale = len(down), float(layer.scale)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": scale * rank, "lora_dropout": 0.0, "bias": "none"}
    return tensors, config | {"target_modules": list(method.layers)}


def _glora(method: OnSupernet) -> tuple[dict[str, Tensor], dict[str, Any]]:
    supernet = method.supernet
    convs = [name for name, layer in supernet.layers.items() if isinstance(layer, GLoRAConv2d)]
    if convs:
        raise ValueError(
            f"{convs[0]} is a convolution, which HF PEFT's GLoRA does not adapt; take the merged model instead: "
            "export=merged"
        )
    choices: tuple[Choice, ...] = supernet.current.layers
    chosen = list(zip(supernet.layers.items(), choices, strict=True))
    gained = [name for (name, layer), choice in chosen if layer.bias is None and gives_bias(choice)]
    if gained:
        raise ValueError(
            f"{gained[0]} has no bias and gains one through C or E, which HF PEFT's layers ignore; take the merged "
            "model instead: export=merged"
        )
    tensors: dict[str, Tensor] = {}
    rank = supernet.space.ranks[0]
    for (name, layer), choice in chosen:
        paths = _soup_paths(layer, choice) if isinstance(choice, tuple) else _paths(layer, choice, rank)
        tensors |= {f"{name}.glora_{key}": t for key, t in paths.items()}
    rank += isinstance(supernet.current, Soup)
    config = {"peft_type": "GLORA", "r": rank, "target_modules": list(supernet.layers)}
    return tensors, config | {"config_A_B": "lora", "config_C": "vector", "config_D_E": "vector", "bias": "none"}


def _paths(layer: GLoRALinear, config: LayerConfig, rank: int) -> dict[str, Tensor]:
    """PEFT's tensors of one layer: A and B as (d2, r) and (r, d1), C (d1, 1), D and E (d2,)."""
    out: dict[str, Tensor] = {}
    for key, down, up, option in (("A", layer.Ad, layer.Au, config.A), ("B", layer.Bd, layer.Bu, config.B)):
        out[f"{key}.Xd"] = down.new_zeros(layer.out_features, rank)
        out[f"{key}.Xu"] = down.new_zeros(rank, layer.in_features)
        _fill(out[f"{key}.Xd"], out[f"{key}.Xu"], down.detach(), up.detach(), option)
    if layer.bias is None:
        return out | _no_bias(layer)
    prompt, shift = (layer.E.new_zeros(size) for size in (layer.in_features, layer.out_features))
    assert layer.D is not None
    out["C.X"] = (prompt if config.C == NONE else layer._prompt(config.C)).unsqueeze(1)
    for key, stored, option in (("D", layer.D, config.D), ("E", layer.E, config.E)):
        out[f"{key}.X"] = shift if option == NONE else shift + (stored if option.kind == "vector" else stored[0])
    return out


def _no_bias(layer: GLoRALinear) -> dict[str, Tensor]:
    """PEFT keeps constant zeros for C, D and E there and warns where a file lacks them."""
    shift = layer.E.new_zeros(layer.out_features)
    return {"C.zeros": layer.E.new_zeros(layer.in_features, 1), "D.zeros": shift, "E.zeros": shift.clone()}


@torch.no_grad()
def _soup_paths(layer: GLoRALinear, row: Row) -> dict[str, Tensor]:
    """The same with the gates multiplied in, at one rank more: v a 1^T joins its column's row, s is the last column."""
    gates, rank = layer.gate_tensor(row), layer.max_rank
    masks, flag = gates[: 3 * rank].view(3, rank), dict(zip(FLAGS, gates[3 * rank :], strict=True))
    out: dict[str, Tensor] = {}
    for key, down, up, mask in (("A", layer.Ad, layer.Au, masks[0]), ("B", layer.Bd, layer.Bu, masks[1])):
        rows = up * mask.unsqueeze(1)
        rows[0] += flag[key, "vector"]
        scalar = (flag[key, "scalar"] * down[:1, :1]).expand(len(down), 1)
        out |= {f"{key}.Xd": torch.cat([down, scalar], 1), f"{key}.Xu": torch.cat([rows, torch.ones_like(rows[:1])])}
    if layer.bias is None:
        return out | _no_bias(layer)
    assert layer.D is not None
    out["C.X"] = ((layer.Cd * masks[2]) @ layer.Cu[:, 0] + flag["C", "vector"] * layer.Cd[:, 0]).unsqueeze(1)
    for key, vector in (("D", layer.D), ("E", layer.E)):
        out[f"{key}.X"] = flag[key, "vector"] * vector + flag[key, "scalar"] * vector[:1]
    return out


def _fill(d: Tensor, u: Tensor, down: Tensor, up: Tensor, option: Option) -> None:
    """Write A or B, of which no more may be stored than its option uses, into zeros (d2, r) and (r, d1)."""
    if option.kind == "lora":
        d[:, : option.rank], u[: option.rank] = down[:, : option.rank], up[: option.rank]
    elif option != NONE:
        d[:, 0], u[0] = (down[:, 0] if option.kind == "vector" else down[0, 0]), 1
