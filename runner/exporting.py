"""The export stage: the finished run's merged model with a timm config, or its adapter as HF PEFT stores it."""

from __future__ import annotations

from pathlib import Path

from glora.backbones import channel_statistics
from glora.export import export_model
from glora.methods import Searched
from glora.peft_export import export_peft
from runner import config as cfg
from runner.build import load_trained
from runner.choosing import chosen
from runner.config import ConfigError
from runner.folder import read_winner, run_folder, search_folder
from runner.schema import TrainConf


def export(c: TrainConf) -> Path:
    """Write <run or search folder>/export/{model.safetensors, config.json}; returns the folder.

    `export=peft` writes export_peft/{adapter_model.safetensors, adapter_config.json} instead.

    Raises:
        ConfigError: if the run is not finished, its merged model is not a plain timm architecture, or HF
            PEFT has no format for what was trained.
    """
    run = run_folder(c)
    home = search_folder(c, run) if cfg.searched(c) else run
    method = load_trained(chosen(c, run), run, final=True)
    if cfg.searched(c) and method.mergeable:
        assert isinstance(method, Searched)
        if not (home / "best.json").exists():
            raise ConfigError(f"{run} is not searched yet; run search.py with the same words first")
        method.set(read_winner(method.space, home))
    mean, std = channel_statistics(c.backbone.normalization)
    preprocessing = {"size": c.backbone.image_size, "resize": "bicubic squash", "mean": mean, "std": std}
    try:
        if c.export == "peft":
            return export_peft(method, home / "export_peft")
        return export_model(method.merge(), home / "export", c.backbone.timm_name, c.backbone.kwargs,
                            cfg.task(c).num_classes, preprocessing)  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
