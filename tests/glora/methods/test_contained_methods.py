"""Where equation 10 contains a method, its trained weights become support tensors of the same function."""

import pytest
import torch

from glora.linear import GLoRALinear
from glora.options import NONE, VECTOR, LayerConfig, Option
from tests.helpers.small_methods import build, layer
from tests.helpers.small_models import same


def glora_layer(base, rank, config, **tensors):
    glora = GLoRALinear(base, rank)
    with torch.no_grad():
        for p in glora.adapter_parameters().values():
            p.zero_()
        for n, value in tensors.items():
            getattr(glora, n)[tuple(slice(s) for s in value.shape)] = value
    glora.config = config
    return glora


def lora_option(rank):
    return Option("lora", rank)


def test_equation_10_contains_lora_both_forms():
    _, adapted, base, x = layer("lora", "attn.qkv", scale=0.5)
    config = LayerConfig(B=lora_option(8))
    same(glora_layer(base, 8, config, Bd=0.5 * adapted.up[0], Bu=adapted.down[0])(x), adapted(x))
    _, adapted, base, x = layer("lora", "attn.qkv", form="qv", rank=4)
    down = torch.zeros(96, 8, dtype=torch.double)
    down[:32, :4], down[64:, 4:] = adapted.up[0].detach(), adapted.up[1].detach()
    same(glora_layer(base, 8, config, Bd=down, Bu=torch.cat(list(adapted.down)))(x), adapted(x))


@pytest.mark.parametrize("form", ["tt", "tk"])
@pytest.mark.parametrize("part", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
def test_equation_10_contains_fact_at_its_rank(form, part):
    _, adapted, base, x = layer(f"fact_{form}", part, rank=4)
    u, s, v = torch.linalg.svd(adapted.merge().weight - base.weight)
    assert s[4:].max() < 1e-10 * s[0]  # rank r, on the wide layers too
    config = LayerConfig(B=lora_option(4))
    same(glora_layer(base, 4, config, Bd=u[:, :4] * s[:4], Bu=v[:4])(x), adapted(x))


def test_equation_10_contains_repadapter():
    _, adapted, base, x = layer("repadapter", "mlp.fc1", scale=0.5)
    up = torch.block_diag(*adapted.up)
    prompt = (0.5 * (up @ adapted.down_bias + adapted.up_bias))[:, None]
    config = LayerConfig(B=lora_option(8), C=VECTOR)
    same(glora_layer(base, 8, config, Bd=0.5 * base.weight @ up, Bu=adapted.down, Cd=prompt)(x), adapted(x))


def test_equation_10_contains_ssf_on_both_sides_of_a_linear():
    method, adapted, base, x = layer("ssf", "attn.qkv")
    norm = method.model.get_submodule("blocks.1.norm1")  # its scale and shift act on the input of qkv
    expected = adapted(x * norm.gamma + norm.beta)
    d_out, d_in = base.weight.shape
    ones_out, ones_in = torch.ones(d_out, dtype=torch.double), torch.ones(d_in, dtype=torch.double)
    down, up = torch.stack([adapted.gamma, -ones_out], 1), torch.stack([norm.gamma, ones_in])
    shift = adapted.beta + (adapted.gamma - 1) * (base.weight @ norm.beta)
    config = LayerConfig(A=lora_option(2), C=VECTOR, D=VECTOR, E=VECTOR)
    tensors = {"Ad": down, "Au": up, "Cd": norm.beta[:, None], "D": adapted.gamma - 1, "E": shift}
    same(glora_layer(base, 2, config, **tensors)(x), expected)


def test_equation_10_contains_the_biases_of_linears_and_norms():
    method, adapted, base, x = layer("bitfit", "attn.qkv")
    start = build("vit").get_submodule("blocks.1.norm1")
    norm = method.model.get_submodule("blocks.1.norm1")
    config = LayerConfig(A=NONE, C=VECTOR, E=VECTOR)
    tensors = {"Cd": (norm.bias - start.bias)[:, None], "E": adapted.bias - base.bias}
    same(glora_layer(base, 1, config, **tensors)(start(x)), adapted(norm(x)))
