"""A whole supernet with a static graph: one graph for every subnet, the numbers of the branches, one small transfer."""

import random

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from glora import Supernet
from glora.recipe import Recipe
from glora.train import Trainer


def vit(seed=0):
    torch.manual_seed(seed)
    return timm.create_model("vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=32, depth=2, num_heads=2,
                             num_classes=3, drop_path_rate=0.1)  # fmt: skip


def convnext():
    torch.manual_seed(0)
    return timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=3)


def build(model, ranks, static, convs=False):
    supernet = Supernet(model, ranks, convs=convs)
    if static:
        supernet.use_static_graph()
    return supernet


def fill(supernet):
    torch.manual_seed(1)
    for parameter in supernet.trainable().values():
        nn.init.normal_(parameter, std=0.1)


@pytest.mark.parametrize(("make", "size", "convs"), [(vit, 16, False), (convnext, 32, True)])
def test_every_subnet_runs_the_same_graph_and_gives_the_numbers_of_the_branches(make, size, convs):
    branch, static = (build(make().double(), [8, 4], s, convs) for s in (False, True))
    fill(branch), fill(static)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(static.model.eval(), backend=backend, fullgraph=True)
    branch.model.eval()
    x = torch.randn(2, 3, size, size, dtype=torch.double)
    for number in range(8):
        subnet = branch.sample(random.Random(number))
        static.set(subnet)
        outputs = []
        for model in (branch.model, compiled):
            y = model(x)
            y.square().sum().backward()
            outputs.append(y)
        torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-10)
        for (name, p), q in zip(branch.trainable().items(), static.trainable().values(), strict=True):
            want = torch.zeros_like(p) if p.grad is None else p.grad
            torch.testing.assert_close(q.grad, want, rtol=1e-9, atol=1e-10, msg=name)
            assert p.grad is not None or not q.grad.any(), f"{name} takes no part, so its gradient is exactly zero"
        for supernet in (branch, static):
            supernet.model.zero_grad()
    assert len(graphs) == 1


def test_training_in_the_static_form_ends_in_the_same_weights():
    images = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24) % 3
    found = []
    for static in (False, True):
        supernet = build(vit().double(), [8, 4], static)
        # Not AdamW: B as a scalar after a LayerNorm has a gradient of zero, whose rounding it divides by itself.
        recipe = Recipe(lr=0.1, epochs=3, batch_size=8, warmup_epochs=0, optimizer="sgd")
        trainer = Trainer(supernet.model, supernet.trainable(), recipe, lambda i: i.double() / 255, 0, supernet.sample)
        while not trainer.done:
            trainer.train_epoch(images, labels)
        found.append(supernet.state_dict())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=0, atol=1e-10, msg=name)


def test_setting_a_subnet_copies_one_block():
    class Copies(TorchDispatchMode):
        sizes: list[tuple[int, ...]]

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func._schema.name == "aten::copy_":
                self.sizes.append(tuple(args[0].shape))
            return func(*args, **(kwargs or {}))

    supernet = build(vit(), [8, 4], static=True)
    with Copies() as copies:
        copies.sizes = []
        supernet.sample(random.Random(0))
    assert copies.sizes == [(len(supernet.layers), 3 * 8 + 9)]


def test_merge_and_state_do_not_know_of_the_form():
    branch, static = (build(vit(), [4], s) for s in (False, True))
    fill(branch), fill(static)
    assert branch.state_dict().keys() == static.state_dict().keys()
    subnet = static.sample(random.Random(3))
    x = torch.randn(2, 3, 16, 16)
    static.model.eval()
    torch.testing.assert_close(static.merge().eval()(x), branch.merge(subnet).eval()(x), rtol=0, atol=0)
    torch.testing.assert_close(static.model(x), branch.merge(subnet).eval()(x), rtol=0, atol=1e-5)
    assert F.mse_loss(static.model(x), branch.model.eval()(x)) > 1e-6, "the branch form still computes its own subnet"
