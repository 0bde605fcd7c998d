"""SuperLoRA's updates in a step: the memory they take, and gradients that are right although they replace dW."""

import gc
import weakref

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glora.methods import METHODS
from tests.helpers.small_methods import inputs
from tests.helpers.small_models import build, same


class Accounting(TorchDispatchMode):
    """The largest number of bytes alive at once in storages that were allocated inside."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known = set()

    def _free(self, key, size):
        self.alive -= size
        self.known.discard(key)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                storage = t.untyped_storage()
                key = storage.data_ptr()
                if id(storage) not in before and key not in self.known:
                    self.known.add(key)
                    self.alive += storage.nbytes()
                    weakref.finalize(storage, self._free, key, storage.nbytes())
                    self.peak = max(self.peak, self.alive)
        return out


@pytest.mark.parametrize(
    ("options", "copies"),
    [
        ({"groups": 1, "factors": "lora"}, 1.1),
        ({"groups": 1}, 1.3),  # the padding of the cube and the last partial contraction
        ({"groups": 16}, 1.3),
        ({"groups": 24, "shuffle": True}, 1.3),
    ],
)
def test_building_keeps_one_copy_of_the_adapted_weights(options, copies):
    """Of the whole update, with the buffers of one group on top."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=192, depth=4, num_heads=3, num_classes=5)
    updates = METHODS["superlora"](model, **options).updates
    weights = 4 * sum(p.size for p in updates.pieces)
    gc.collect()
    with Accounting() as account:
        kept = [updates.piece(i) for i in range(len(updates.pieces))]
    assert weights <= account.peak <= copies * weights
    assert len({p.untyped_storage().data_ptr() for p in kept}) <= 1 + (options["groups"] > 1) * len(kept)


@pytest.mark.parametrize(
    ("options", "copies"),
    [
        ({}, 1.5),
        ({"groups": 24, "shuffle": True}, 1.4),
        ({"groups": 1, "factors": "lora"}, 2.1),
        ({"shuffle": True}, 1.7),
        ({"ratio": 0.5}, 1.8),
        ({"groups": 24, "ratio": 0.5, "shuffle": True}, 1.5),
        ({"groups": 1}, 2.4),
        ({"groups": 1, "shuffle": True}, 4.3),
        ({"groups": 1, "ratio": 0.5}, 5.8),
    ],
)
def test_a_step_keeps_one_copy_and_a_group(options, copies):
    """Update, activations of one small image and backward: gradients take the memory of what they are gradients of."""
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=192, depth=4, num_heads=3, num_classes=5)
    method = METHODS["superlora"](model, **options)
    weights, x = 4 * sum(p.size for p in method.updates.pieces), torch.randn(1, 3, 32, 32)
    gc.collect()
    with Accounting() as account:
        method.model(x).sum().backward()
    assert weights <= account.peak <= copies * weights
    assert all(p.grad is not None for p in method.trainable().values())


def trained(**options):
    """A method whose updates are not zero, in float64."""
    method = METHODS["superlora"](build("vit"), **options)
    for p in method.updates.parameters():
        nn.init.normal_(p, std=0.3)
    method.model.double()
    return method


def gradients(method, loss):
    return torch.autograd.grad(loss, list(method.updates.parameters()), allow_unused=True)


@pytest.mark.parametrize("options", [{"groups": 5}, {"groups": 1}, {"grouping": "weight"}])
def test_two_passes_before_one_backward_add_up_and_a_second_backward_is_refused(options):
    method, x = trained(**options), inputs("vit").double()
    one, two = x[:1], x[1:2]
    apart = [gradients(method, method.model(part).square().sum()) for part in (one, two)]
    loss = method.model(one).square().sum() + method.model(two).square().sum()
    together = torch.autograd.grad(loss, list(method.updates.parameters()), retain_graph=True)
    for a, b, both in zip(*apart, together, strict=True):
        torch.testing.assert_close(a + b, both)
    with pytest.raises(RuntimeError, match="run forward again"):
        loss.backward()


def test_pieces_that_no_output_comes_from_get_no_gradient_and_leave_nothing_behind():
    """One group holds all pieces; only the first block's are used."""
    method, x = trained(groups=1), inputs("vit").double()
    first, name = method.model.blocks[0].attn.qkv, method.updates.pieces[0].layer
    assert name == "blocks.0.attn.qkv"
    tokens = torch.randn(3, first.in_features, dtype=torch.float64)
    found = gradients(method, first(tokens).square().sum())
    dense = method.updates.build(0)  # the same function through autograd alone
    rows, at = first.weight.clone(), 0
    for i in first.indices:
        piece = method.updates.pieces[i]
        added = dense[at : at + piece.size].view(piece.shape)
        rows = torch.cat([rows[: piece.start], rows[piece.start : piece.end] + added, rows[piece.end :]])
        at += piece.size
    expected = gradients(method, F.linear(tokens, rows, first.bias).square().sum())
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    before = method.model.eval()(x)
    same(before, method.model.eval()(x))


def test_under_bf16_gradients_stay_close_to_float32():
    method, x = trained(groups=5), inputs("vit").float()
    method.model.float()
    exact = gradients(method, method.model(x).square().sum())
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.model(x).square().sum()
    for a, b in zip(gradients(method, loss), exact, strict=True):
        assert a.dtype == torch.float32 and (a - b).norm() <= 0.03 * b.norm()
