"""The transforms of the few-shot and domain-generalisation suites, by timm and torchvision."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data.native import NativeImages

AUGMENTS = ("timm", "none")


def describe_crop(size: int) -> str:
    """The evaluation transform as text, for records."""
    return f"bicubic {resized_to(size)}, centre crop {size}"


def resized_to(size: int) -> int:
    """The side before the crop: 256 for 224, and in that proportion."""
    return round(size * 256 / 224)


def eval_image(image: Image.Image, size: int) -> np.ndarray:
    """uint8 (3, size, size): squashed to 256/224 of `size` with bicubic, then the centre."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    side = resized_to(size)
    image = CenterCrop(size)(Resize((side, side), InterpolationMode.BICUBIC)(image))
    return np.asarray(image).transpose(2, 0, 1)


def _keep_a_bit(transform: Any) -> None:
    """Posterise to one bit where timm asks for none, which gave black images until Pillow 13 made it an error."""
    from PIL import ImageOps

    def posterize(image: Image.Image, bits: int, **kwargs: Any) -> Image.Image:
        return image if bits >= 8 else ImageOps.posterize(image, max(bits, 1))

    for step in transform.transforms:
        for op in getattr(step, "ops", ()):
            if op.name.startswith("Posterize"):
                op.aug_fn = posterize


@dataclass
class Augmented:
    """Training images that differ in every epoch: timm's training transform of NOAH and GLoRA's few-shot runs.

    Random resized crop and flip, colour jitter 0.4, RandAugment rand-m9-mstd0.5-inc1, bicubic, random erasing with
    probability 0.25 (pixel, one area). Each image's draws are a function of (seed, epoch, position) alone, so batches
    may be asked for in any order, and a resumed run sees the same bits.
    """

    images: NativeImages
    size: int
    mean: Sequence[float]
    std: Sequence[float]
    seed: int = 0

    def __post_init__(self) -> None:
        from timm.data.transforms_factory import create_transform

        self.transform = create_transform(
            self.size, is_training=True, color_jitter=0.4, auto_augment="rand-m9-mstd0.5-inc1",
            interpolation="bicubic", re_prob=0.25, re_mode="pixel", re_count=1,
            mean=tuple(self.mean), std=tuple(self.std),
        )  # fmt: skip
        _keep_a_bit(self.transform)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor, epoch: int) -> Tensor:
        """float32 (B, 3, size, size), normalised, on the CPU; leaves the global generators as they were."""
        states = random.getstate(), np.random.get_state()
        try:
            with torch.random.fork_rng(devices=[]):
                return torch.stack([self._one(i, epoch) for i in indices.tolist()])
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])

    def _one(self, index: int, epoch: int) -> Tensor:
        # timm draws from all three global generators.
        key = int(np.random.SeedSequence([self.seed, epoch, index]).generate_state(1)[0])
        random.seed(key)
        np.random.seed(key)
        torch.manual_seed(key)
        out: Tensor = self.transform(self.images.image(index))
        return out
