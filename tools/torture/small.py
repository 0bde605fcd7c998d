"""The runs under attack: every stage on a few own images with a one-block model, so that a command takes a second."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from matplotlib.figure import Figure
from PIL import Image

IMAGES = 8
"""Images of each of two classes."""
BASE = (
    "dataset=folder", "dataset.root=images", "output_root=out", "data_root=data", "logger.wandb=disabled",
    "device=cpu", "backbone=vit_micro", "backbone.pretrained=false", "backbone.image_size=32",
    "backbone.kwargs={img_size:32,patch_size:16,embed_dim:16,depth:1,num_heads:2}",
    "trainer=mini", "trainer.epochs=3", "trainer.batch_size=8", "trainer.warmup_epochs=1",
)  # fmt: skip
"""Overrides of every run. Paths are relative, so that they are the same words in every sandbox."""
SEARCH = ("search.generations=2", "search.population=4", "search.parents=2", "search.mutants=2",
          "search.crossovers=2")  # fmt: skip
TUNED = (
    *SEARCH,
    "search.winner=soup",
    "search.soup_size=3",
    "search.finetune_epochs=2",
    "search.finetune_scratch=true",
)
GRID = ("method=lora", "hparams=val_grid", "+method.grid.lr=[1e-3,1e-2]", "protocol=clean_1000")
NOAH = ("method=noah", *SEARCH, "search.retrain_epochs=2")
SWEEP = ("-m", "method=linear,lora", "seed=0,1")


@dataclass(frozen=True)
class Stage:
    """A command under attack, by `name`, after those of the stage called `after`."""

    name: str
    script: str
    overrides: tuple[str, ...]
    after: str | None = None

    @property
    def words(self) -> list[str]:
        """The command line."""
        flags = [word for word in self.overrides if word.startswith("-")]
        return [self.script, *flags, *BASE, *(word for word in self.overrides if word not in flags)]


STAGES = {
    stage.name: stage
    for stage in (
        Stage("train", "train.py", SEARCH),
        Stage("search", "search.py", SEARCH, "train"),
        Stage("evaluate", "evaluate.py", SEARCH, "search"),
        Stage("tune", "search.py", TUNED, "train"),
        Stage("measure", "evaluate.py", TUNED, "tune"),
        Stage("export", "export.py", TUNED, "tune"),
        Stage("grid", "train.py", GRID),
        Stage("noah_train", "train.py", NOAH),
        Stage("noah", "search.py", NOAH, "noah_train"),
        Stage("sweep", "train.py", SWEEP),
        Stage("run", "run.py", (*SEARCH, "method=linear,glora")),
    )
}


def remember_compositions() -> None:
    """Let Hydra compose each command line once in this process and its children: it is most of a small command's time.

    Everything else of a command is what it always is; command lines that are themselves under attack are composed anew.
    """
    kept: dict[Any, Any] = {}
    compose: Callable[..., Any] = ConfigLoaderImpl.load_configuration

    def load(self: ConfigLoaderImpl, **asked: Any) -> Any:
        key = repr(sorted(asked.items()))
        if key not in kept:
            kept[key] = compose(self, **asked)
        return copy.deepcopy(kept[key])

    patch.object(ConfigLoaderImpl, "load_configuration", load).start()


def leave_pictures_blank() -> None:
    """Let matplotlib write an empty picture wherever it is to write one: drawing is most of what remains of a command.

    That it is written, where and how, is as it always is.
    """

    def save(self: Figure, target: Any, **options: Any) -> None:
        Image.new("RGB", (8, 8)).save(target, "PNG")

    patch.object(Figure, "savefig", save).start()


def make_images(folder: Path) -> None:
    """Images of noise, for each of two classes, that training can tell apart."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("ant", "bee")):
        (folder / name).mkdir(parents=True)
        for i in range(IMAGES):
            pixels = rng.integers(0, 120, (20, 24, 3)) + np.array([100 * label, 0, 120 - 100 * label])
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:03d}.png")
