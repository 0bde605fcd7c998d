"""How fast images come: decoding into the cache and epochs from it, against ImageFolder with a DataLoader."""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data import load_own, own_images
from data.base import usable_cpus
from glora.backbones import NORMALIZATIONS
from glora.train import Normalizer
from runner.bench.setting import pairs, seconds
from runner.tracking.environment import processor, versions

SIZE, BATCH = 224, 64


def make_images(root: Path, count: int, height: int, width: int) -> None:
    """`count` JPEG files in four class folders, smooth enough to compress like photographs."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8))
        path = root / f"class{i % 4}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=90)


def measure_data(count: int, height: int, width: int, repeats: int) -> dict[str, Any]:
    """Images per second of the three, in turn, `repeats` times; ratios are of neighbours in time.

    Each epoch ends with normalised float32 batches of 64 at 224 pixels in CPU memory.
    """
    import torchvision.transforms as T
    from torchvision.datasets import ImageFolder

    rates: dict[str, list[float]] = {"decode into the cache": [], "cached epoch": [], "ImageFolder + DataLoader": []}
    normalize = Normalizer(*NORMALIZATIONS["imagenet"])
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "images"
        make_images(root, count, height, width)
        own = own_images(root, SIZE, count - 8, 4, 4)
        used = count - 8
        resize = T.Resize((SIZE, SIZE), interpolation=T.InterpolationMode.BICUBIC)
        transform = T.Compose([resize, T.ToTensor(), T.Normalize(*NORMALIZATIONS["imagenet"])])
        loader = torch.utils.data.DataLoader(
            ImageFolder(root, transform), BATCH, shuffle=True, drop_last=True, num_workers=usable_cpus()
        )
        for repeat in range(repeats):
            cache = Path(directory) / f"cache{repeat}"
            rates["decode into the cache"].append(used / seconds(partial(load_own, own, "train800", cache)))
            images = load_own(own, "train800", cache).images.clone()

            def cached(images: torch.Tensor = images) -> None:
                for batch in torch.randperm(used).split(BATCH)[: used // BATCH]:
                    normalize(images[batch])

            rates["cached epoch"].append(used // BATCH * BATCH / seconds(cached))
            rates["ImageFolder + DataLoader"].append(count // BATCH * BATCH / seconds(lambda: [None for _ in loader]))
    ratios = {name: pairs(rates, name, "ImageFolder + DataLoader") for name in rates}
    return {
        "command": f"python benchmark.py data images={count} size={height}x{width} repeats={repeats}",
        "hardware": {"processor": processor(), "cores": usable_cpus(), "threads": torch.get_num_threads()},
        "versions": versions("torch", "torchvision", "pillow", "numpy"),
        "images_per_second": rates,
        "ratio_to_imagefolder": ratios,
    }


def data_lines(found: dict[str, Any]) -> list[str]:
    """The table as Markdown lines: medians, and the range of the ratios."""
    lines = ["| what | images/s (median) | times ImageFolder + DataLoader (median, range) |", "| --- | ---: | ---: |"]
    for name, values in found["images_per_second"].items():
        r = found["ratio_to_imagefolder"][name]
        lines.append(
            f"| {name} | {statistics.median(values):,.0f} | {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f}) |"
        )
    return lines
