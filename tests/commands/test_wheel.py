"""The wheel is the library alone, and the library runs without the framework."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers import ROOT

USE = """
import importlib.util, random, sys, timm, torch
assert not any(importlib.util.find_spec(name) for name in ("data", "runner", "train")), sys.path
import glora
from glora import EvolutionSearch, MergedEvaluator, Supernet
assert glora.__file__.startswith(sys.argv[1]), glora.__file__
kwargs = dict(img_size=32, patch_size=16, embed_dim=32, depth=1, num_heads=2)
model = timm.create_model("vit_tiny_patch16_224", num_classes=2, **kwargs)
supernet = Supernet(model, ranks=[8, 4])
images, labels = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
optimizer = torch.optim.AdamW(supernet.trainable().values(), lr=5e-4)
for step in range(2):
    supernet.sample(random.Random(step))
    torch.nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step(), optimizer.zero_grad(set_to_none=False)
evaluator = MergedEvaluator(supernet)
accuracy = lambda m: float((m(images).argmax(1) == labels).float().mean())
search = EvolutionSearch(supernet.space, lambda s: accuracy(evaluator.write(s)), generations=2, population=3)
while not search.done:
    search.step()
plain = supernet.merge(search.best().subnet)
assert accuracy(plain.eval()) == search.best().accuracy
hidden = {"hydra", "omegaconf", "matplotlib", "tensorflow_datasets", "sklearn"} & sys.modules.keys()
assert not hidden, hidden
"""


@pytest.mark.slow
def test_the_wheel_holds_the_library_alone_and_it_runs_elsewhere(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = tmp_path / "source"  # a build leaves folders behind
    shutil.copytree(ROOT / "glora", source / "glora", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, cwd=tmp_path, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {n for n in names if not n.endswith(".dist-info")} == {"glora"}
    assert "glora/py.typed" in zipfile.ZipFile(wheel).namelist()
    target = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True)
    # What it depends on comes from this environment; of its own code nothing does.
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(target)}
    only = "import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in str(f)]\n"
    command = [sys.executable, "-c", only + USE, str(target)]
    done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
