"""Equation 10 against an independent dense float64 evaluation and against HF PEFT, for every configuration."""

import copy

import peft
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from glora.gates import gate_table
from glora.linear import GLoRALinear
from glora.options import LayerConfig, all_configs
from tests.helpers.dense_formula import D_IN, D_OUT, RANK, dense_forward


def filled_layer(max_rank, bias=True, seed=0):
    torch.manual_seed(seed)
    layer = GLoRALinear(nn.Linear(D_IN, D_OUT, bias=bias).double(), max_rank)
    for p in layer.adapter_parameters().values():
        nn.init.normal_(p, std=0.3)
    return layer


@pytest.mark.parametrize("ranks", [(8,), (8, 4)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("static", [False, True])
def test_outputs_and_every_gradient_equal_the_dense_formula(ranks, bias, static):
    configs = all_configs(ranks, bias)
    assert len(configs) == {(1, True): 432, (2, True): 900, (1, False): 144, (2, False): 300}[len(ranks), bias]
    layer = filled_layer(RANK, bias)
    named = layer.adapter_parameters()
    x = torch.randn(15, D_IN, dtype=torch.double, requires_grad=True)
    probe = torch.randn(15, D_OUT, dtype=torch.double)
    wanted = [x, *named.values()]
    for config in configs:
        layer.config = config
        layer.gates = gate_table((config,), RANK)[0] if static else None
        y = layer(x)
        expected = dense_forward(layer.weight, layer.bias, named, config, x)
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-10)
        got = torch.autograd.grad(y, wanted, probe, allow_unused=True, materialize_grads=True)
        want = torch.autograd.grad(expected, wanted, probe, allow_unused=True, materialize_grads=True)
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=0, atol=1e-10)
        torch.testing.assert_close(layer.merge()(x), y, rtol=0, atol=1e-10)


def test_starts_at_the_pretrained_function_for_every_configuration():
    torch.manual_seed(0)
    base = nn.Linear(D_IN, D_OUT).double()
    layer, x = GLoRALinear(base, RANK), torch.randn(3, D_IN, dtype=torch.double)
    for config in all_configs((8, 4)):
        layer.config = config
        torch.testing.assert_close(layer(x), base(x), rtol=0, atol=1e-12)


def test_init_bounds_are_xavier_uniform():
    torch.manual_seed(0)
    layer = GLoRALinear(nn.Linear(768, 768), 8)
    for tensor, bound in ((layer.Au, 0.08794), (layer.Bu, 0.08794), (layer.Cu, 0.8165)):
        assert tensor.abs().max() <= bound + 1e-4
    assert layer.Au.detach().abs().max() > 0.087 and layer.Au.detach().std() == pytest.approx(
        0.08794 / 3**0.5, rel=0.03
    )
    assert all(not getattr(layer, n).detach().any() for n in ("Ad", "Bd", "Cd", "D", "E"))


def peft_layer(base):
    """A PEFT GLoRA layer with every path at its most general option and the largest rank."""
    config = peft.GloraConfig(r=RANK, target_modules=["0"], config_A_B="lora", config_C="vector", config_D_E="vector")
    return peft.get_peft_model(nn.Sequential(base), config).double().eval()


@pytest.mark.parametrize("ranks", [(8,), (8, 4)])
def test_hf_peft_gives_the_same_outputs(ranks):
    layer = filled_layer(RANK)
    base = nn.Linear(D_IN, D_OUT).double()
    base.load_state_dict({"weight": layer.weight, "bias": layer.bias})
    model = peft_layer(base)
    paths = {n.split("glora_")[1].replace(".default.X", ""): p for n, p in model.named_parameters() if "glora_" in n}
    x = torch.randn(5, D_IN, dtype=torch.double)
    t = layer.adapter_parameters()

    def write(down, up, d, u, option):
        d.zero_(), u.zero_()
        if option.kind == "lora":
            d[:, : option.rank], u[: option.rank] = down[:, : option.rank], up[: option.rank]
        elif option.kind != "none":
            d[:, 0] = down[:, 0] if option.kind == "vector" else down[0, 0]
            u[0] = 1

    def vector(v, option):
        ones = torch.ones_like(v)
        return {"vector": v, "scalar": ones * v[0], "none": ones * 0}[option.kind]

    with torch.no_grad():
        for config in all_configs(ranks):
            layer.config = config
            write(t["Ad"], t["Au"], paths["Ad"], paths["Au"], config.A)
            write(t["Bd"], t["Bu"], paths["Bd"], paths["Bu"], config.B)
            prompt = torch.zeros(D_IN, dtype=torch.double) if config.C.kind == "none" else layer._prompt(config.C)
            paths["C"].copy_(prompt.reshape(paths["C"].shape))
            paths["D"].copy_(vector(t["D"], config.D).reshape(paths["D"].shape))
            paths["E"].copy_(vector(t["E"], config.E).reshape(paths["E"].shape))
            torch.testing.assert_close(layer(x), model(x), rtol=0, atol=1e-10)


def gradients(layer, x, probe):
    wanted = [x, *layer.adapter_parameters().values()]
    return torch.autograd.grad(layer(x), wanted, probe, allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("a", ["vector", "scalar"])
def test_gradients_hold_where_a_row_factor_cancels_the_weight(a):
    """1 + a = 0: the gradient cannot be divided out of the output."""
    layer = filled_layer(RANK)
    named = layer.adapter_parameters()
    with torch.no_grad():
        layer.Ad[0, 0] = -1
    layer.config = LayerConfig.parse([a, "lora_8", "vector", "vector", "vector"])
    x = torch.randn(15, D_IN, dtype=torch.double, requires_grad=True)
    probe = torch.randn(15, D_OUT, dtype=torch.double)
    expected = dense_forward(layer.weight, layer.bias, named, layer.config, x)
    want = torch.autograd.grad(expected, [x, *named.values()], probe, allow_unused=True, materialize_grads=True)
    for got, right in zip(gradients(layer, x, probe), want, strict=True):
        torch.testing.assert_close(got, right, rtol=0, atol=1e-10)


def test_only_a_lora_pays_for_the_dense_weight_gradient():
    """Matrix products of at least half the layer's size: forward and input gradient, and one more where A is a LoRA."""

    class Count(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.large = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func._schema.name in ("aten::mm", "aten::addmm"):
                one, other = args[-2:]
                self.large += one.shape[0] * one.shape[1] * other.shape[1] >= 64 * 32 * 48 / 2
            return func(*args, **(kwargs or {}))

    layer = GLoRALinear(nn.Linear(32, 48), 8)
    x = torch.randn(64, 32, requires_grad=True)
    for config in all_configs((8, 4)):
        layer.config = config
        with Count() as count:
            gradients(layer, x, torch.ones(64, 48))
        assert count.large == (3 if config.A.kind == "lora" else 2), config


@pytest.mark.parametrize("static", [False, True])
def test_a_bfloat16_product_stays_close_to_float32(static):
    """W is formed in float32 and cast once: outputs and gradients within 2 % of float32, in the norm."""
    torch.manual_seed(0)
    layer = GLoRALinear(nn.Linear(64, 96), RANK)
    for p in layer.adapter_parameters().values():
        nn.init.normal_(p, std=0.1)
    x, probe = torch.randn(256, 64, requires_grad=True), torch.randn(256, 96)
    for config in all_configs((8, 4)):
        layer.config = config
        layer.gates = gate_table((config,), RANK)[0] if static else None
        wide, right = layer(x), gradients(layer, x, probe)
        with torch.autocast("cpu", torch.bfloat16):
            narrow = layer(x)
            got = gradients(layer, x, probe.bfloat16())
        assert narrow.dtype == torch.bfloat16
        for g, w in zip([narrow.float(), *got], [wide, *right], strict=True):
            assert (g.float() - w).norm() <= 0.02 * w.norm() + 1e-6, config


def test_a_backbone_in_bf16_takes_every_configuration():
    """Its weights are formed in float32, so a float32 layer of the same numbers differs by the last rounding alone."""
    torch.manual_seed(0)
    base, x = nn.Linear(16, 12).bfloat16(), torch.randn(3, 16).bfloat16().requires_grad_()
    layer, wide = GLoRALinear(base, 4), GLoRALinear(copy.deepcopy(base).float(), 4)
    for name, p in layer.adapter_parameters().items():
        assert p.dtype == torch.float32
        nn.init.normal_(p, std=0.1)
        wide.adapter_parameters()[name].data.copy_(p)
    for config in all_configs((4, 2)):
        layer.config = wide.config = config
        out = layer(x)
        out.float().sum().backward()
        torch.testing.assert_close(out.float(), wide(x.float()), rtol=3e-2, atol=3e-2)
