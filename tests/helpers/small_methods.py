"""Every method on the tiny models of `small_models`, at its start and away from it."""

import torch
from torch import nn

from glora.methods import METHODS
from tests.helpers.small_models import SMALL
from tests.helpers.small_models import build as build_random


def build(kind, seed=0):
    """A random model whose biases are not zero either, as in a pre-trained one."""
    model = build_random(kind, seed)
    torch.manual_seed(seed + 10)
    with torch.no_grad():
        for module in model.modules():
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=0.1)
    return model


def make(kind, name, **options):
    """The method at its start."""
    model = build(kind)
    torch.manual_seed(1)
    return METHODS[name](model, **options)


def inputs(kind):
    """Two images, float64 (2, 3, size, size)."""
    size = SMALL[kind][1]["img_size"]
    return torch.randn(2, 3, size, size, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def filled(kind, name, **options):
    """The method with every trained tensor moved away from its start."""
    method = make(kind, name, **options)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in method.trainable().values():
            p.add_(torch.randn_like(p), alpha=0.1)
    if name == "glora":
        method.supernet.set(method.supernet.space.largest)
    return method


def layer(name, part, **options):
    """The tiny ViT's adapted layer `part` of block 1, its pre-trained twin and an input."""
    method, base = filled("vit", name, **options), build("vit").get_submodule(f"blocks.1.{part}")
    width = base.in_features if isinstance(base, nn.Linear) else base.weight.shape[-1]
    x = torch.randn(3, 5, width, dtype=torch.double, generator=torch.Generator().manual_seed(4))
    return method, method.model.eval().get_submodule(f"blocks.1.{part}"), base, x
