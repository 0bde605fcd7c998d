"""timm transformers whose attention reads qkv's weight directly, and activations that overwrite a layer's output."""

import copy
import random

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from glora import Supernet
from glora.methods import METHODS, NotDefined

SMALL = {
    "beit": ("beit_base_patch16_224", {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 28, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "swinv2": ("swinv2_tiny_window8_256",
               {"img_size": 64, "window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2)}),
}  # fmt: skip


def build(kind):
    """No parameter is zero, as in a pre-trained model (SwinV2's norms start there)."""
    name, kwargs = SMALL[kind]
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **kwargs).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p), alpha=0.1)
    return model


def images(kind):
    size = SMALL[kind][1]["img_size"]
    return torch.randn(2, 3, size, size, dtype=torch.double, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("name", METHODS)
def test_everything_that_trains_takes_part_or_the_method_is_refused(kind, name):
    x, reference = images(kind), build(kind)
    try:
        method = METHODS[name](build(kind))
    except NotDefined as error:
        assert name in str(error)
        assert name in ("noah", "vpt_shallow", "vpt_deep", "adapter", "adaptformer", "adapter_plus") or (
            kind == "eva" and name.startswith("fact")  # its MLP's width is no multiple of the model's
        )
        return
    if name == "glora":
        method.supernet.set(method.supernet.space.largest)
    with torch.no_grad():
        for p in method.trainable().values():
            p.add_(torch.randn_like(p), alpha=0.1)
    method.model.eval()
    expected = method.model(x)
    F.cross_entropy(expected, torch.tensor([0, 1])).backward()
    assert not [n for n, p in method.trainable().items() if p.grad is None or not p.grad.any()]
    assert (expected - reference(x)).abs().max() > 1e-3
    torch.testing.assert_close(method.merge().eval()(x), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", SMALL)
def test_every_subnet_trains_and_merges_and_with_a_and_b_alone_it_loads_into_the_untouched_model(kind):
    x, plain = images(kind), build(kind)
    for tensors, static in (("ABCDE", False), ("ABCDE", True), ("AB", False)):
        supernet, rng = Supernet(build(kind), [4, 2], tensors=tensors), random.Random(0)
        supernet.model.double()
        for p in supernet.trainable().values():
            nn.init.normal_(p, std=0.1)
        if static:
            supernet.use_static_graph()
        for _ in range(8):
            supernet.sample(rng)
            adapted = supernet.model(x)
            adapted.sum().backward()
            merged = supernet.merge().eval()
            torch.testing.assert_close(merged(x), adapted, rtol=0, atol=1e-9)
            if tensors == "AB":
                plain.load_state_dict(merged.state_dict(), strict=True)
                torch.testing.assert_close(plain(x), adapted, rtol=0, atol=1e-9)


def test_attention_without_the_switch_is_refused():
    model = build("beit")
    del model.blocks[1].attn.qkv_bias_separate
    for make in (METHODS["lora"], METHODS["glora"], lambda m: Supernet(m, [4])):
        with pytest.raises(NotDefined, match=r"blocks\.1\.attn\.qkv"):
            make(copy.deepcopy(model))


@pytest.mark.parametrize("shape", [(4, 8), (4, 3, 8)])
def test_an_activation_in_place_overwrites_nothing_that_backward_reads(shape):
    def network(inplace):
        torch.manual_seed(0)
        relu = nn.ReLU(inplace=inplace)
        model = nn.Sequential(nn.Linear(8, 16), relu, nn.Linear(16, 8), relu, nn.Linear(8, 2)).double()
        supernet = Supernet(model, [4, 2], head=model[4])
        for p in supernet.trainable().values():
            nn.init.normal_(p, std=0.3)
        return supernet

    one, other, x = network(True), network(False), torch.randn(*shape, dtype=torch.double)
    for seed in range(20):
        for supernet in (one, other):
            supernet.sample(random.Random(seed))
            supernet.model(x).square().sum().backward()
    for a, b in zip(one.trainable().values(), other.trainable().values(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
