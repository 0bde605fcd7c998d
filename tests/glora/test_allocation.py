"""What a step and a candidate do not allocate: matrices of a layer's size."""

import random

import pytest
import timm
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from glora import GLoRALinear, MergedEvaluator, Supernet
from glora.options import VECTOR, LayerConfig, Option, all_configs
from glora.product import _Scratch, _scratch


class Largest(TorchDispatchMode):
    """The size of the largest tensor that an operation made in memory of its own."""

    def __init__(self, known):
        super().__init__()
        self.known, self.elements = {t.untyped_storage().data_ptr() for t in known}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(t, torch.Tensor) and t.untyped_storage().data_ptr() not in self.known:
                self.elements = max(self.elements, t.untyped_storage().nbytes() // t.element_size())
        return out


MODELS = {
    "vit_tiny_patch16_224": {"img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 2},
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (32, 64, 64, 64)},
}


@pytest.mark.parametrize("name", MODELS)
def test_writing_a_candidate_allocates_no_weight(name):
    supernet = Supernet(timm.create_model(name, num_classes=3, **MODELS[name]), (4, 2), convs=True)
    for p in supernet.trainable().values():
        nn.init.normal_(p, std=0.1)
    evaluator, rng = MergedEvaluator(supernet), random.Random(0)
    known = [*supernet.model.parameters(), *supernet.trainable().values(), *evaluator.model.parameters()]
    layers = supernet.layers.values()
    vectors = max(4 * max(m.out_features, m.in_features) for m in layers)  # factors and biases at most
    smallest = min(m.weight.numel() for m in layers if m.weight.numel() > vectors)
    with Largest(known) as made:
        for _ in range(20):
            evaluator.write(supernet.space.sample(rng))
    assert 0 < made.elements <= vectors < smallest


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_layer_forms_its_weight_in_memory_that_is_there(precision):
    """Three tokens, so that everything but a weight is small."""
    torch.manual_seed(0)
    layer, x = GLoRALinear(nn.Linear(96, 80), 4), torch.randn(3, 96, requires_grad=True)
    for p in layer.adapter_parameters().values():
        nn.init.normal_(p, std=0.01)

    def step(config):
        layer.config = config
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            y = layer(x)
        y.float().square().sum().backward()

    configs = random.Random(0).sample(all_configs((4, 2)), 60)
    for config in configs:
        step(config)  # the memory is made here, once
    pointers = {name: flat.data_ptr() for name, flat in _scratch._flat.items()}
    with Largest([layer.weight, *_scratch._flat.values()]) as made:
        for config in configs:
            step(config)
    assert 0 < made.elements <= 4 * 96 < layer.weight.numel()
    assert pointers == {name: flat.data_ptr() for name, flat in _scratch._flat.items()}


class Sums(TorchDispatchMode):
    """Shapes of the matrices that operations sum."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "sum" in func.name() and args[0].dim() == 2:
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("a", ["vector", "scalar"])
def test_a_row_factor_and_the_bias_get_their_gradients_in_one_pass_over_the_output(monkeypatch, a):
    """Chunk by chunk, each summed twice while it is in the cache; nothing sums all 24 tokens."""
    monkeypatch.setattr("glora.product.CHUNK", 8 * 80)
    layer, x = GLoRALinear(nn.Linear(96, 80), 4), torch.randn(24, 96, requires_grad=True)
    layer.config = LayerConfig(A=Option.parse(a), E=VECTOR)
    y = layer(x)
    with Sums() as found:
        y.backward(torch.ones_like(y))
    assert found.shapes.count((8, 80)) == 6 and not any(rows == 24 for rows, _ in found.shapes)


def test_training_after_an_evaluation_in_inference_mode_writes_to_memory_of_its_own():
    scratch, weight = _Scratch(), torch.ones(3, 2)
    with torch.inference_mode():
        scratch.like(weight, "W").fill_(1)
    assert not scratch.like(weight, "W").mul_(2).is_inference()
    supernet = Supernet(nn.Sequential(nn.Linear(4, 1021), nn.Linear(1021, 2)), (4,), head=nn.Identity())
    supernet.set(supernet.space.largest)  # no other test has matrices of this size
    with torch.inference_mode():
        supernet.model(torch.ones(3, 4))
    supernet.model(torch.ones(3, 4)).sum().backward()
