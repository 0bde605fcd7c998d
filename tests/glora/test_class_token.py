"""The last block for the class token alone: exact for every method, and only where nothing else is read."""

import inspect
import random

import pytest
import timm
import torch
from timm.models.vision_transformer import ParallelThingsBlock
from torch import nn

from glora import MergedEvaluator, Supernet
from glora.class_token import compute_class_token_alone, computes_class_token_alone
from glora.methods import METHODS
from tests.helpers.small_methods import filled, inputs
from tests.helpers.small_models import SMALL, build

NOAH_SUBNET = "5 10 | 5 0 | 1 5"


def logits_and_gradients(method):
    """Of one training step."""
    method.before_step(random.Random(3))
    if not method.eval_backbone:
        method.model.train()
    torch.manual_seed(4)  # of drop path
    logits = method.model(inputs("vit"))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2]))
    names, tensors = zip(*method.trainable().items(), strict=True)
    return logits, dict(zip(names, torch.autograd.grad(loss, tensors, allow_unused=True), strict=True))


def seen_by(model, names):
    """Tokens that each of these modules is called with."""
    seen = {}
    for name in names:
        model.get_submodule(name).register_forward_pre_hook(
            lambda m, given, n=name: seen.update({n: given[0].shape[1]})
        )
    size = SMALL["vit"][1]["img_size"]
    model(torch.zeros(1, 3, size, size, dtype=torch.double))
    return seen


@pytest.mark.parametrize("name", METHODS)
def test_logits_and_every_gradient_are_those_of_the_whole_block(name, monkeypatch):
    monkeypatch.setitem(SMALL["vit"][1], "drop_path_rate", 0.3)
    # A dropout on single elements would draw other numbers.
    options = {"dropout": 0.0} if "dropout" in inspect.signature(METHODS[name].__init__).parameters else {}
    options |= {"subnet": NOAH_SUBNET} if name == "noah" else {}
    whole, alone = (filled("vit", name, **options) for _ in range(2))
    assert compute_class_token_alone(alone.model) and computes_class_token_alone(alone.model)
    expected, found = logits_and_gradients(whole), logits_and_gradients(alone)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-10)
    assert found[1].keys() == expected[1].keys()
    assert any(g is not None and g.abs().max() > 1e-4 for g in expected[1].values())
    for tensor, gradient in expected[1].items():
        assert (gradient is None) == (found[1][tensor] is None)
        if gradient is not None:
            torch.testing.assert_close(found[1][tensor], gradient, rtol=0, atol=1e-10)


def test_the_last_block_works_on_one_token_and_the_others_on_all():
    model = build("vit")
    names = [f"blocks.{i}.{part}" for i in (0, len(model.blocks) - 1) for part in ("attn.qkv", "attn.proj", "mlp.fc1")]
    count = model.pos_embed.shape[1]
    assert set(seen_by(model, names).values()) == {count}
    assert compute_class_token_alone(model)
    seen = seen_by(model, names)
    assert [seen[n] for n in names] == [count, count, count, count, 1, 1]


def test_static_graph_merged_model_and_candidates_give_the_same_logits():
    whole, alone, static = (Supernet(build("vit"), [4, 2]) for _ in range(3))
    for supernet in (whole, alone, static):
        torch.manual_seed(5)
        for p in supernet.trainable().values():
            nn.init.normal_(p, std=0.1)
    for supernet in (alone, static):
        assert compute_class_token_alone(supernet.model)
    static.use_static_graph()
    x, rng, plain = inputs("vit"), random.Random(0), build("vit", seed=9)
    evaluator = MergedEvaluator(alone)
    for _ in range(5):
        subnet = whole.sample(rng)
        alone.set(subnet)
        static.set(subnet)
        expected = whole.model(x)
        merged = alone.merge()
        plain.load_state_dict(merged.state_dict(), strict=True)
        for model in (alone.model, static.model, merged, evaluator.write(subnet), plain):
            torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vit_tiny_patch16_224", {"global_pool": "avg"}),
        ("vit_tiny_patch16_224", {"global_pool": "avg", "class_token": False}),
        ("vit_tiny_patch16_224", {"global_pool": "map"}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("vit_tiny_patch16_224", {"block_fn": ParallelThingsBlock}),
    ],
)
def test_where_more_is_read_or_blocks_are_others_nothing_changes(name, changes):
    torch.manual_seed(0)
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
    model = timm.create_model(name, **(options | changes)).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    expected = model(x)
    kinds = [type(m) for m in model.modules()]
    assert not compute_class_token_alone(model) and not computes_class_token_alone(model)
    assert [type(m) for m in model.modules()] == kinds
    assert torch.equal(model(x), expected)


def test_a_swin_is_left_alone():
    assert not compute_class_token_alone(build("swin"))


@pytest.mark.parametrize("changes", [{"reg_tokens": 2}, {"init_values": 0.5}, {"qk_norm": True}, {"fc_norm": True}])
def test_register_tokens_layer_scale_and_norms_stay_exact(changes):
    torch.manual_seed(0)
    options = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
    model = timm.create_model("vit_tiny_patch16_224", **options, **changes).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.double)
    expected = model(x)
    assert compute_class_token_alone(model)
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-12)
