"""The export stage: the finished run's merged model with a timm config, or its adapter as HF PEFT stores it."""

from __future__ import annotations

from pathlib import Path

import torch

from data.files import write_bytes
from glora.evaluation import score
from glora.export import export_model
from glora.peft_export import export_peft
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.rundir.files import locked
from runner.rundir.records import read_winner
from runner.stages.model import load_trained, searched
from runner.stages.tune import chosen
from runner.stages.winner import load_tuned, require_tuned


def export(run: Run) -> Path:
    """Write <result directory>/export/{model.safetensors, config.json}; returns the directory.

    `export=peft` writes export_peft/{adapter_model.safetensors, adapter_config.json} instead.

    Raises:
        ConfigError: if the run is not finished, its merged model is not a plain timm architecture, or HF
            PEFT has no format for what was trained.
        FloatingPointError: if the model gives logits that are not finite.
    """
    with locked(run.directory):
        return _export(run)


def _export(run: Run) -> Path:
    result = run.result_directory
    method = load_trained(chosen(run), run.directory, run.protocol.weights_file(final=True))
    if run.method.searched and method.mergeable:
        supernet = searched(method)
        if not (result / "best.json").exists():
            raise ConfigError(f"{run.directory} is not searched yet; run search.py with the same overrides first")
        supernet.set(read_winner(supernet.space, result))
        if run.search is not None and run.search.finetune_epochs:
            require_tuned(run.search)
            method = load_tuned(chosen(run), run.search)
    data = run.data
    preprocessing = {"size": data.image_size, "resize": "bicubic squash", "mean": data.mean, "std": data.std}
    device, size = run.compute.device, data.image_size
    grey = torch.zeros(1, 3, size, size, device=device)
    try:
        score(method.model, [grey], torch.zeros(1, dtype=torch.int64, device=device))
        if run.export == "peft":
            return export_peft(method, result / "export_peft", write_bytes)
        return export_model(method.merge(), result / "export", run.backbone.timm_name, dict(run.backbone.kwargs),
                            run.task.num_classes, preprocessing, write_bytes)  # fmt: skip
    except ValueError as error:
        raise ConfigError(str(error)) from error
