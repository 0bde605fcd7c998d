"""What docs/extending.md promises: each kind of thing is added from outside the tree, through the command line."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

from tests.helpers.commands import forked

SMALL = ["backbone=vit_micro", "backbone.pretrained=false", "backbone.kwargs.depth=1", "trainer=mini",
         "trainer.max_steps=2", "trainer.batch_size=16", "logger.wandb=disabled", "search.generations=1",
         "search.population=3"]  # fmt: skip


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def add(root: Path, group: str, name: str, text: str) -> None:
    """A YAML of one's own."""
    path = root / "configs" / group / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


def use(root: Path, data_root: Path, scripts: tuple[str, ...], *overrides: str, plugin: str = "") -> str:
    """Run the scripts on a task with what was added; returns everything they printed."""
    out = ""
    extra = []
    if plugin:
        (root / "plugin.py").write_text(textwrap.dedent(plugin))
        extra = [f"plugins=[{root / 'plugin.py'}]"]
    search_path = [f"hydra.searchpath=[file://{root / 'configs'}]"] if (root / "configs").exists() else []
    task = [] if any(o.startswith("dataset=") for o in overrides) else ["dataset=digits"]
    for script in scripts:
        done = forked([f"{script}.py", *task, *SMALL, *overrides, *extra, *search_path, f"data_root={data_root}",
                       f"output_root={root / 'runs'}"])  # fmt: skip
        assert done.returncode == 0, done.stderr
        out += done.stdout
    return out


def result(root: Path) -> dict[str, object]:
    (path,) = (root / "runs").rglob("result.json")
    found: dict[str, object] = json.loads(path.read_text())
    return found


def test_a_method(tmp_path: Path, data_root: Path) -> None:
    add(tmp_path, "method", "norms", """\
        name: norms
        options: {bias_only: true}
        recipe: {lr: 1.0e-3, epochs: 100}
        grid: {lr: [1.0e-4, 1.0e-3]}
        """)  # fmt: skip
    plugin = """\
        from torch import nn
        from glora.methods.bitfit import BitFit


        class Norms(BitFit):
            name = "norms"
            label = "Norm biases"
            paper_rows, known_params = {}, {}

            def __init__(self, model: nn.Module, bias_only: bool = True) -> None:
                super().__init__(model)
        """
    shown = use(tmp_path, data_root, ("train", "evaluate"), "method=norms", plugin=plugin)
    assert "Norm biases" in shown and result(tmp_path)["method"] == "norms"


def test_a_search(tmp_path: Path, data_root: Path) -> None:
    add(
        tmp_path,
        "search",
        "smallest",
        """\
        defaults: [random, _self_]
        name: smallest
        share: 0.5
        extremes: false
        """,
    )
    plugin = """\
        from dataclasses import dataclass
        from glora.search.base import Search, at_least


        @dataclass
        class Smallest(Search):
            name = "smallest"
            share: float = at_least(0.5, 0, 1)

            def propose(self, rng):
                return [self.space.smallest]
        """
    overrides = ("search=smallest", "search.share=0.25", "search.winner=soup")
    use(tmp_path, data_root, ("train", "search", "evaluate"), *overrides, plugin=plugin)
    assert result(tmp_path)["params"] == 0
    own = [f"plugins=[{tmp_path / 'plugin.py'}]", f"hydra.searchpath=[file://{tmp_path / 'configs'}]"]
    refused = forked(["search.py", "dataset=digits", *SMALL, "search=smallest", "search.share=2", *own])
    assert refused.returncode == 2 and "search.share=2 must be at least 0 and at most 1" in refused.stderr


def test_a_sampler(tmp_path: Path, data_root: Path) -> None:
    plugin = """\
        from pathlib import Path
        from typing import Any
        from glora.sampling import Sampler


        class Ends(Sampler[Any]):
            name = "ends"

            def subnets(self, seed: int, step: int) -> list[Any]:
                with (Path(__file__).parent / "asked").open("a") as asked:
                    asked.write(f"{step} ")
                return [self.space.largest, self.space.smallest]
        """
    use(tmp_path, data_root, ("train", "search", "evaluate"), "supernet.sampling=ends", plugin=plugin)
    assert (tmp_path / "asked").read_text() == "0 1 "
    assert "ends" in str(result(tmp_path)["form"])
    refused = forked(["train.py", "dataset=digits", *SMALL, "supernet.sampling=end",
                      f"plugins=[{tmp_path / 'plugin.py'}]"])  # fmt: skip
    assert refused.returncode == 2 and "is not one of uniform, sandwich, fair, ends" in refused.stderr


def test_a_backbone(tmp_path: Path, data_root: Path) -> None:
    add(tmp_path, "backbone", "tiny", """\
        name: tiny
        timm_name: vit_tiny_patch16_224
        kwargs: {img_size: 32, patch_size: 8, embed_dim: 32, depth: 1, num_heads: 2}
        pretrained: false
        image_size: 32
        """)  # fmt: skip
    overrides = ("backbone=tiny", "method=linear")
    global SMALL
    small, SMALL = SMALL, SMALL[3:]
    try:
        use(tmp_path, data_root, ("train", "evaluate"), *overrides)
    finally:
        SMALL = small
    assert result(tmp_path)["backbone"] == "tiny"


def test_a_protocol(tmp_path: Path, data_root: Path) -> None:
    add(tmp_path, "protocol", "both", """\
        name: both
        training: train800
        final: train800val200
        mark: retrained on everything
        """)  # fmt: skip
    shown = use(tmp_path, data_root, ("train", "search", "evaluate"), "protocol=both")
    found = result(tmp_path)
    assert found["training_images"] == 1000 and found["mark"] == "retrained on everything"
    assert found["comparable"] is False and "retrained on everything" in " ".join(shown.split())
    assert list(tmp_path.rglob("weights_1000.safetensors"))
    (config,) = (tmp_path / "runs").rglob("config.json")
    assert json.loads(config.read_text())["protocol"]["final"] == "train800val200"


def test_a_task_and_a_suite(tmp_path: Path, data_root: Path) -> None:
    add(tmp_path, "dataset", "noise", "{id: noise, lr: 1.0e-3}\n")
    add(tmp_path, "sweep", "mine", """\
        # @package _global_
        hydra:
          mode: MULTIRUN
          sweeper: {params: {dataset: "${suite:mine}"}}
        """)  # fmt: skip
    plugin = """\
        import torch
        from data import Split, TaskInfo, register_task
        from data.base import hash_content

        SIZES = {"train800": 40, "val200": 20, "train800val200": 60, "test": 30}


        def load(split, data_root):
            generator = torch.Generator().manual_seed(len(split))
            images = torch.randint(0, 256, (SIZES[split], 3, 64, 64), dtype=torch.uint8, generator=generator)
            labels = torch.arange(SIZES[split]) % 2
            return Split(images, labels, hash_content(images, labels))


        register_task(TaskInfo("noise", "Noise", "natural", "mine", 2, SIZES, 64), load)
        """
    overrides = ("method=linear", "dataset=noise", "protocol=clean_1000")
    shown = use(tmp_path, data_root, ("train", "evaluate"), *overrides, plugin=plugin)
    found = result(tmp_path)
    assert (found["suite"], found["training_images"]) == ("mine", 60) and "Noise" in shown


def test_a_column(tmp_path: Path, data_root: Path) -> None:
    plugin = """\
        from runner.report.tables import COLUMNS

        COLUMNS["Batch"] = lambda row: "/".join(str(r["batch_size"]) for r in row)
        """
    shown = use(tmp_path, data_root, ("train", "evaluate"), "method=linear", "details=true", plugin=plugin)
    assert "Batch" in shown
    header, _, row = (tmp_path / "runs" / "tables" / "table.md").read_text().splitlines()[2:5]
    cells = dict(zip(header.split("|"), row.split("|"), strict=True))
    assert cells[" Batch "].strip() == "16" and list(cells)[-1].strip() == "Remarks"


def test_a_plugin_that_is_not_there_or_fails_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    for name, message in (("none.py", "is no Python file"), ("broken.py", "cannot be imported (ZeroDivisionError")):
        done = forked(["train.py", "dataset=digits", f"plugins=[{tmp_path / name}]"])
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
