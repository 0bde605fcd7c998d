"""Taking a merged model home: plain weights as safetensors, and a config that `timm.create_model` understands."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import timm
from torch import nn

from glora.state import to_safetensors


def export_model(
    model: nn.Module,
    folder: Path,
    timm_name: str,
    kwargs: Mapping[str, Any],
    num_classes: int,
    preprocessing: Mapping[str, Any],
    write: Callable[[Path, bytes], object] = Path.write_bytes,
) -> Path:
    """Write `model.safetensors` and `config.json`; a deployer needs timm and nothing of this project.

        config = json.load(open("config.json"))
        model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["kwargs"])
        model.load_state_dict(safetensors.torch.load_file("model.safetensors"))

    Args:
        model: a merged model (`Supernet.merge`).
        timm_name: the architecture; a weights tag after a dot is left out.
        preprocessing: mean, std, size and resize, for the reader.
        write: how a file gets its content.

    Raises:
        ValueError: if the model is not the plain architecture (then nothing is written).
    """
    architecture = timm_name.partition(".")[0]
    plain = timm.create_model(architecture, num_classes=num_classes, **kwargs)
    state = model.state_dict()
    odd = sorted(plain.state_dict().keys() ^ state.keys())
    if odd:
        raise ValueError(f"the model is not a plain {architecture}; first differing tensors: {odd[:3]}")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "model.safetensors", to_safetensors(state))
    config = {
        "architecture": architecture,
        "num_classes": num_classes,
        "kwargs": dict(kwargs),
        "preprocessing": dict(preprocessing),
    }
    write(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    return folder
