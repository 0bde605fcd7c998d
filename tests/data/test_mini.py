"""The mini suite: sizes, balance, determinism, disjoint splits, and a cache that heals."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from data import SUITES, TASKS, Split, load_split
from data import mini_cache as cache_module
from data.mini import RENDERERS, render_split
from data.mini_cache import mini_path, mini_ready

# First 16 digits of each test split's content hash. A change here without a new mini.VERSION is a mistake.
GOLDEN: dict[str, str] = {
    "digits": "62322b9de369f18c",
    "textures": "342f3600da8f852c",
    "shapes_count": "31d98885a3f6bc71",
    "shapes_location": "a42e22388033274d",
    "shapes_orientation": "daa53f1d933cba82",
    "shapes_distance": "106fc99daa8a0f01",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root in which each mini task is rendered once for the whole module."""
    path = tmp_path_factory.mktemp("mini")
    for task_id in SUITES["mini"]:
        load_split(task_id, "test", data_root=path)
    return path


def image_hashes(split: Split) -> set[str]:
    return {hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in split.images}


@pytest.mark.parametrize("task_id", SUITES["mini"])
def test_splits(task_id: str, root: Path) -> None:
    task, seen = TASKS[task_id], set[str]()
    splits = {name: load_split(task_id, name, data_root=root) for name in task.split_sizes}
    for name, split in splits.items():
        size = task.split_sizes[name]
        assert split.images.shape == (size, 3, 64, 64) and split.images.dtype == torch.uint8
        assert split.labels.shape == (size,) and split.labels.dtype == torch.int64
        counts = torch.bincount(split.labels, minlength=task.num_classes)
        assert len(counts) == task.num_classes
        # Rendered splits are exactly balanced; digits keep the nearly equal shares of the source.
        assert int(counts.max() - counts.min()) <= (2 if task_id != "digits" else size // 50)
        assert split.labels[: task.num_classes].tolist() != sorted(split.labels[: task.num_classes].tolist())
    for name in ("train800", "val200", "test"):
        hashes = image_hashes(splits[name])
        assert len(hashes) == task.split_sizes[name] and not hashes & seen
        seen |= hashes
    both = splits["train800val200"]
    assert torch.equal(both.images[:800], splits["train800"].images)
    assert torch.equal(both.labels[800:], splits["val200"].labels)
    assert len({split.content_hash for split in splits.values()}) == 4


@pytest.mark.parametrize("task_id", SUITES["mini"])
def test_golden_hash(task_id: str, root: Path) -> None:
    assert load_split(task_id, "test", data_root=root).content_hash[:16] == GOLDEN[task_id]


@pytest.mark.parametrize("task_id", sorted(RENDERERS))
def test_rendering_is_deterministic(task_id: str, root: Path) -> None:
    cached, fresh = load_split(task_id, "val200", data_root=root), render_split(TASKS[task_id], "val200")
    assert fresh.content_hash == cached.content_hash and torch.equal(fresh.images, cached.images)


def test_cached_load_renders_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "build_task", lambda task: pytest.fail("rendered although cached"))
    assert len(load_split("textures", "train800val200", data_root=root).labels) == 1000


@pytest.mark.parametrize("damage", ["flipped byte", "cut", "empty", "other version", "other dtype"])
def test_damaged_cache_is_rebuilt(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    task = TASKS["digits"]
    before = load_split("digits", "train800", data_root=tmp_path)
    path = mini_path("digits", tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "flipped byte":
        with caplog.at_level(logging.WARNING):
            for offset in range(len(content) // 4, len(content), len(content) // 4):
                content[offset] ^= 1
            path.write_bytes(content)
    elif damage == "other version":
        path.write_bytes(content.replace(b"glora-mini/digits/v", b"glora-mini/digits/w"))
    elif damage == "other dtype":
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        save_file({n: t.double() if n.endswith("labels") else t for n, t in load_file(path).items()}, path, metadata)
    else:
        path.write_bytes(content[:5000] if damage == "cut" else b"")
    assert not mini_ready(task, tmp_path)
    after = load_split("digits", "train800val200", data_root=tmp_path)
    assert torch.equal(after.images[:800], before.images)
    assert mini_ready(task, tmp_path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary file is left behind


def test_unwritable_root_still_loads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    split = load_split("digits", "val200", data_root=blocked)
    assert len(split.labels) == 200 and "cannot write" in caplog.text
