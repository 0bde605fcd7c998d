"""A tiny ViT and a tiny Swin in float64, bare and under a filled supernet."""

import timm
import torch
from torch import nn

from glora import Supernet

VIT = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 56, "embed_dim": 16, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 2)}
SMALL = {"vit": ("vit_tiny_patch16_224", VIT), "swin": ("swin_tiny_patch4_window7_224", SWIN)}


def build(kind, seed=0):
    """The model with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    name, kwargs = SMALL[kind]
    return timm.create_model(name, num_classes=5, **kwargs).double().eval()


def filled(kind, ranks=(8, 4)):
    """A supernet of it whose trained tensors are all away from zero."""
    supernet = Supernet(build(kind), ranks)
    for p in supernet.trainable().values():
        nn.init.normal_(p, std=0.1)
    return supernet


def same(a, b):
    """Equal but for rounding in float64."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
