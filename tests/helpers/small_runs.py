"""Overrides of runs that take seconds, and their scripts run with them."""

from pathlib import Path

from tests.helpers.commands import forked

# Random weights of a two-block model: the commands are under test here, not the accuracy.
SMALL = [
    "dataset=digits",
    "trainer=mini",
    "backbone.pretrained=false",
    "backbone.kwargs={img_size:64,patch_size:16,embed_dim:32,depth:2,num_heads:2}",
    "trainer.epochs=3",
    "search.generations=2",
    "search.population=5",
    "search.mutants=2",
    "search.crossovers=2",
    "logger.wandb=disabled",
]

# A one-block ViT with random weights, for images of 224 pixels.
TINY_VIT = [
    "backbone=timm", "backbone.timm_name=vit_tiny_patch16_224", "backbone.pretrained=false",
    *(f"+backbone.kwargs.{key}" for key in ("patch_size=32", "embed_dim=32", "depth=1", "num_heads=2")),
    "trainer=mini", "trainer.epochs=2", "logger.wandb=disabled",
]  # fmt: skip


def command(script, root, data_root, *overrides):
    """The script and its overrides for a small run on digits."""
    return [script, *SMALL, f"output_root={root}", f"data_root={data_root}", *overrides]


def run(script, root, data_root, *overrides):
    """Run that command to its end."""
    return forked(command(script, root, data_root, *overrides))


def only(root, pattern):
    """The one file under the root that matches the pattern."""
    found = sorted(Path(root).rglob(pattern))
    assert len(found) == 1, found
    return found[0]
