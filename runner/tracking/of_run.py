"""The tracker of a stage, and what a run was made on, from the run."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import torch

from runner.config.run import Run
from runner.tracking.environment import processor, versions
from runner.tracking.tracker import Tracker

log = logging.getLogger(f"glora.{__name__}")


def open_tracker(run: Run, directory: Path, job_type: str) -> Tracker:
    """The tracker of one stage; the stages of one run share a W&B group."""
    search = {} if run.search is None else {"name": run.search.name, **run.search.settings}
    name = f"{run.directory.parent.name}-{run.directory.name}"
    return Tracker(
        directory,
        mode=run.tracking.wandb,
        project=run.tracking.project,
        name=f"{name}-{job_type}",
        group=name,
        job_type=job_type,
        config={**run.identity, "search": search},
        echo=log.info,
    )


@functools.cache
def device_name(device: torch.device) -> str:
    """The name of the GPU, or of the processor."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def environment(run: Run) -> dict[str, Any]:
    """Hardware and versions, for the record: what a figure was made with."""
    found = versions("torch", "torchvision", "timm", "numpy", "hydra-core")
    return {"device": device_name(run.compute.device), "threads": torch.get_num_threads(), **found}
