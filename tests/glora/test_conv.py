"""Equation 10 for convolutions against unfolded patches in dense float64, and a ConvNeXt trained and merged."""

import random

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from glora import EvolutionSearch, MergedEvaluator, Supernet
from glora.conv import GLoRAConv2d
from glora.gates import gate_table
from glora.options import all_configs
from tests.helpers.dense_formula import D_IN, D_OUT, RANK, dense_forward

# All with 10 entries a patch and 14 outputs, the sizes of the dense formula.
CONVS = {
    "plain": {"in_channels": 5, "kernel_size": (2, 1), "padding": (1, 0)},
    "grouped": {
        "in_channels": 10, "kernel_size": (1, 2), "groups": 2, "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2),
    },
    "depthwise": {"in_channels": 7, "kernel_size": (2, 5), "groups": 7, "padding": (1, 2)},
}  # fmt: skip


def filled(kwargs, bias=True):
    torch.manual_seed(0)
    layer = GLoRAConv2d(nn.Conv2d(out_channels=D_OUT, bias=bias, **kwargs).double(), RANK)
    for p in layer.adapter_parameters().values():
        nn.init.normal_(p, std=0.3)
    return layer


def dense(layer, config, x, kwargs):
    """Each group's unfolded patches through the dense formula, of which the group's own outputs are kept."""
    groups, named = kwargs.get("groups", 1), layer.adapter_parameters()
    geometry = {k: kwargs[k] for k in ("padding", "stride", "dilation") if k in kwargs}
    rows = []
    for g, part in enumerate(x.chunk(groups, 1)):
        patches = F.unfold(part, kwargs["kernel_size"], **geometry).transpose(1, 2)
        y = dense_forward(layer.weight, layer.bias, named, config, patches)
        rows.append(y[..., g * D_OUT // groups : (g + 1) * D_OUT // groups])
    return torch.cat(rows, -1).transpose(1, 2)


@pytest.mark.parametrize("form", CONVS)
@pytest.mark.parametrize(("ranks", "bias"), [((8, 4), True), ((8,), False)])
def test_outputs_gradients_and_merge_equal_the_dense_formula(form, ranks, bias):
    kwargs = CONVS[form]
    layer = filled(kwargs, bias)
    x = torch.randn(2, kwargs["in_channels"], 4, 6, dtype=torch.double, requires_grad=True)
    wanted = [x, *layer.adapter_parameters().values()]
    assert layer.in_features == D_IN and layer.out_features == D_OUT
    for config in all_configs(ranks, bias):
        layer.config = config
        y = layer(x)
        expected = dense(layer, config, x, kwargs).view_as(y)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
        probe = torch.ones_like(y).cumsum(-1)
        got = torch.autograd.grad(y, wanted, probe, allow_unused=True, materialize_grads=True)
        want = torch.autograd.grad(expected, wanted, probe, allow_unused=True, materialize_grads=True)
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-10, atol=1e-9)
        torch.testing.assert_close(layer.merge()(x), y, rtol=0, atol=1e-10)


@pytest.mark.parametrize("static", [False, True])
def test_the_kernel_is_formed_in_float32_under_autocast(static):
    layer = filled(CONVS["plain"]).float()
    for config in (all_configs((8, 4))[0], all_configs((8, 4))[-200]):
        layer.config = config
        layer.gates = gate_table((config,), RANK)[0] if static else None
        with torch.autocast("cpu", torch.bfloat16):
            found = layer.effective()
            assert layer(torch.randn(2, 5, 4, 6)).dtype == torch.bfloat16
        for one, other in zip(found, layer.effective(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("more", [{"padding": "same", "dilation": 2}, {"padding": 1, "padding_mode": "reflect"}])
def test_other_paddings_are_the_convolutions_own(more):
    torch.manual_seed(0)
    base = nn.Conv2d(4, 6, 3, **more).double()
    layer, x = GLoRAConv2d(base, 2), torch.randn(2, 4, 7, 7, dtype=torch.double)
    torch.testing.assert_close(layer(x), base(x), rtol=0, atol=1e-12)
    for p in layer.adapter_parameters().values():
        nn.init.normal_(p)
    layer.config = all_configs((2,))[0]
    torch.testing.assert_close(layer.merge()(x), layer(x), rtol=0, atol=1e-10)


CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "num_classes": 5}


def convnext(seed=0):
    torch.manual_seed(seed)
    return timm.create_model("convnext_tiny", **CONVNEXT).double().eval()


def test_a_convnext_trains_and_every_subnet_merges_into_an_untouched_model():
    supernet, plain = Supernet(convnext(), [4], convs=True), convnext(seed=9)
    specs = {s.name: s for s in supernet.space.layers}
    depthwise = specs["stages.0.blocks.0.conv_dw"]
    assert (depthwise.d_in, depthwise.d_out) == (49, 8) and (specs["stem.0"].d_in, specs["stem.0"].d_out) == (48, 8)
    assert supernet.stored_params() == supernet.space.params(supernet.space.largest)
    assert len(Supernet(convnext(), [4]).layers) == 8  # linears alone by default
    x, labels, rng = torch.randn(4, 3, 64, 64, dtype=torch.double), torch.arange(4), random.Random(0)
    for p in supernet.trainable().values():
        nn.init.normal_(p, std=0.1)
    optimizer, losses = torch.optim.AdamW(supernet.trainable().values(), lr=1e-2), []
    supernet.set(supernet.space.largest)
    for _ in range(4):
        optimizer.zero_grad()
        loss = F.cross_entropy(supernet.model(x), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    evaluator = MergedEvaluator(supernet)
    for _ in range(5):
        subnet = supernet.sample(rng)
        expected = supernet.model(x)
        torch.testing.assert_close(evaluator.write(subnet)(x), expected, rtol=0, atol=1e-9)
        plain.load_state_dict(supernet.merge().state_dict(), strict=True)
        torch.testing.assert_close(plain(x), expected, rtol=0, atol=1e-9)
    search = EvolutionSearch(
        supernet.space,
        lambda s: (evaluator.write(s)(x).argmax(1) == labels).double().mean().item(),
        generations=3, population=8, parents=3, mutants=3, crossovers=3, max_params=3000,
    )  # fmt: skip
    while not search.done:
        search.step()
    best = search.best()
    assert len(search.candidates) == 24 and max(c.params for c in search.candidates) <= 3000
    plain.load_state_dict(supernet.merge(best.subnet).state_dict(), strict=True)
    assert (plain(x).argmax(1) == labels).double().mean().item() == best.accuracy


def test_a_bias_free_convolution_gains_a_bias_of_its_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).double()
    supernet, x = Supernet(model, [2], head=model[3], convs=True), torch.randn(2, 3, 6, 6, dtype=torch.double)
    for p in supernet.trainable().values():
        nn.init.normal_(p)
    subnet = supernet.space.largest
    supernet.set(subnet)
    assert supernet.merge(subnet)[0].bias is not None
    torch.testing.assert_close(supernet.merge(subnet)(x), model(x))
    torch.testing.assert_close(MergedEvaluator(supernet).write(subnet)(x), model(x))
