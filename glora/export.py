"""Taking a merged model home: plain weights as safetensors, and a config that `timm.create_model` understands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import nn


def export_model(
    model: nn.Module,
    folder: Path,
    timm_name: str,
    kwargs: Mapping[str, Any],
    num_classes: int,
    preprocessing: Mapping[str, Any],
) -> Path:
    """Write `model.safetensors` and `config.json`; a deployer needs timm and nothing of this project.

        config = json.load(open("config.json"))
        model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["kwargs"])
        model.load_state_dict(safetensors.torch.load_file("model.safetensors"))

    Args:
        model: a merged model (`Supernet.merge`).
        timm_name: the architecture; a weights tag after a dot is left out.
        preprocessing: mean, std, size and resize, for the reader.

    Raises:
        ValueError: if the model is not the plain architecture (then nothing is written).
    """
    architecture = timm_name.partition(".")[0]
    plain = timm.create_model(architecture, num_classes=num_classes, **kwargs)
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    odd = sorted(plain.state_dict().keys() ^ state.keys())
    if odd:
        raise ValueError(f"the model is not a plain {architecture}; first differing tensors: {odd[:3]}")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": architecture,
        "num_classes": num_classes,
        "kwargs": dict(kwargs),
        "preprocessing": dict(preprocessing),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return folder
