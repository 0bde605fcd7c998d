"""Whole models: which layers are adapted, counts of the published tables, merging, saving."""

import random
from collections import Counter

import pytest
import timm
import torch
from torch import nn

from glora import LayerConfig, LayerSpec, MergedEvaluator, Option, SearchSpace, Subnet, Supernet
from glora.linear import GLoRALinear
from tests.helpers.small_models import SMALL, build, filled
from tests.helpers.spaces import vit_b_space


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_merged_equals_adapted_and_loads_into_an_untouched_model(kind):
    supernet, rng = filled(kind), random.Random(0)
    evaluator, plain = MergedEvaluator(supernet), build(kind, seed=9)
    x = torch.randn(2, 3, SMALL[kind][1]["img_size"], SMALL[kind][1]["img_size"], dtype=torch.double)
    reference = build(kind)(x)
    for _ in range(20):
        subnet = supernet.sample(rng)
        adapted = supernet.model(x)
        assert (adapted - reference).abs().max() > 1e-3
        plain.load_state_dict(supernet.merge().state_dict(), strict=True)
        torch.testing.assert_close(plain(x), adapted, rtol=0, atol=1e-9)
        torch.testing.assert_close(evaluator.write(subnet)(x), adapted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_merging_merges_each_layer_once_and_checks_a_subnet_once(kind, monkeypatch):
    merged, checked = Counter(), Counter()
    merge, check = GLoRALinear.merge, SearchSpace.check

    def counted_merge(layer, config=None):
        merged[layer] += 1
        return merge(layer, config)

    def counted_check(space, subnet):
        checked[subnet] += 1
        check(space, subnet)

    monkeypatch.setattr(GLoRALinear, "merge", counted_merge)
    monkeypatch.setattr(SearchSpace, "check", counted_check)
    supernet = filled(kind)
    subnet, other = (supernet.space.sample(random.Random(i)) for i in range(2))
    supernet.set(subnet)
    supernet.merge()
    assert merged == dict.fromkeys(supernet.layers.values(), 1) and checked == {subnet: 1}
    supernet.merge(other)
    assert merged == dict.fromkeys(supernet.layers.values(), 2) and checked == {subnet: 1, other: 1}
    outside = Supernet(build(kind), [2]).space.largest
    with pytest.raises(ValueError, match="lora_2 is not in the space"):
        supernet.merge(outside)
    assert supernet.current == subnet and merged.total() == 2 * len(supernet.layers)


@pytest.mark.parametrize(
    ("model", "layers", "stored"),
    [
        ("vit_base_patch16_224", 48, {8: 3_041_664, 4: 1_603_776, 2: 884_832}),
        ("swin_base_patch4_window7_224", 99, {8: 4_087_832, 4: 2_153_100, 2: 1_185_734}),
    ],
)
def test_layers_and_stored_sizes_of_the_published_backbones(model, layers, stored):
    with torch.device("meta"):
        probe = timm.create_model(model, num_classes=10)
    specs = None
    for rank, expected in stored.items():
        head = set(probe.get_classifier().modules())
        found = [(n, m) for n, m in probe.named_modules() if type(m) is nn.Linear and m not in head]
        specs = tuple(LayerSpec(n, m.in_features, m.out_features, m.bias is not None) for n, m in found)
        space = SearchSpace(specs, (rank,))
        assert len(specs) == layers and space.params(space.largest) == expected
    assert not any(s.name.startswith("head") for s in specs)
    assert sum(not s.bias for s in specs) == (3 if layers == 99 else 0)


@pytest.mark.parametrize(
    ("ranks", "mean"), [((8, 4), 1_006_122), ((4, 2), 555_387), ((2,), 308_824), ((8,), 880_312), ((4,), 499_320)]
)
def test_mean_size_of_a_uniform_subnet(ranks, mean):
    space = vit_b_space(ranks)
    from glora.options import config_params

    exact = sum(
        sum(config_params(c, s.d_in, s.d_out) for c in space.configs(i)) / len(space.configs(i))
        for i, s in enumerate(space.layers)
    )
    assert round(exact) == mean
    rng = random.Random(0)
    assert sum(space.params(space.sample(rng)) for _ in range(300)) / 300 == pytest.approx(exact, rel=0.03)


def test_space_describes_itself():
    assert "432 options per layer, 20,736 (layer, option) pairs, 432^48" in vit_b_space((2,)).describe()
    assert "900^48" in vit_b_space((8, 4)).describe()


def test_subnet_is_hashable_and_survives_json():
    supernet = filled("vit")
    subnet = supernet.space.sample(random.Random(3))
    again = Subnet.from_json(subnet.to_json(supernet.space.names), supernet.space.names)
    assert again == subnet and len({again, subnet}) == 1
    with pytest.raises(ValueError, match="not the model's"):
        Subnet.from_json("{}", supernet.space.names)


def test_only_declared_parameters_train_and_state_holds_only_them():
    supernet = filled("vit")
    grads = {n for n, p in supernet.model.named_parameters() if p.requires_grad}
    assert grads == set(supernet.trainable()) == set(supernet.state_dict())
    assert {"head.weight", "head.bias"} <= grads
    assert supernet.stored_params() == supernet.space.params_range[1]
    other = filled("vit")
    other.load_state_dict(supernet.state_dict())
    assert all(
        torch.equal(a, b) for a, b in zip(other.state_dict().values(), supernet.state_dict().values(), strict=True)
    )
    with pytest.raises(ValueError, match="check backbone, method, ranks"):
        Supernet(build("vit"), [4]).load_state_dict(supernet.state_dict())


@pytest.mark.parametrize("ranks", [[], [4, 8], [8, 8], [0], ["a"]])
def test_bad_ranks_are_refused(ranks):
    with pytest.raises(ValueError, match="ranks must be"):
        Supernet(build("vit"), ranks)


def test_what_cannot_be_adapted_is_refused():
    supernet = filled("vit")
    with pytest.raises(ValueError, match="adapted already"):
        Supernet(supernet.model, [4])
    with pytest.raises(ValueError, match="no nn.Linear"):
        Supernet(nn.Sequential(nn.Conv2d(3, 4, 1)), [4])
    shared = nn.Linear(4, 4)
    with pytest.raises(ValueError, match="2 and 0 are one shared"):
        Supernet(nn.Sequential(shared, nn.ReLU(), shared), [2])
    outside = supernet.space.sample(random.Random(0))
    with pytest.raises(ValueError, match=r"lora_8 is not in the space|lora_4 is not in the space"):
        Supernet(build("vit"), [2]).set(outside)


def test_any_module_can_be_adapted_with_its_head_given():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8, bias=False), nn.Linear(8, 3)).double()
    supernet = Supernet(model, [2], head=model[3])
    for p in supernet.trainable().values():
        nn.init.normal_(p)
    assert supernet.space.names == ("0", "2") and {"3.weight", "3.bias"} <= supernet.trainable().keys()
    x = torch.randn(5, 6, dtype=torch.double)
    for seed in range(5):
        supernet.sample(random.Random(seed))
        torch.testing.assert_close(supernet.merge()(x), model(x))
        torch.testing.assert_close(MergedEvaluator(supernet).write(supernet.current)(x), model(x))


@pytest.mark.parametrize(("scaled", "same"), [(False, True), (True, False)])
def test_a_scalar_before_the_residual_stream_of_a_pre_norm_vit_has_no_effect(scaled, same):
    """B and E then add one number to all channels, which LayerNorm takes out; behind LayerScale they do not."""
    torch.manual_seed(0)
    name, kwargs = SMALL["vit"]
    model = timm.create_model(name, num_classes=5, init_values=0.5 if scaled else None, **kwargs).double().eval()
    for n, p in model.named_parameters():
        if n.endswith("gamma"):
            nn.init.normal_(p)
    supernet = Supernet(model, (2,))
    for p in supernet.trainable().values():
        nn.init.normal_(p)
    x, scalar = torch.randn(2, 3, 32, 32, dtype=torch.double), LayerConfig(B=Option("scalar"), E=Option("scalar"))
    adds = [n.endswith(("attn.proj", "mlp.fc2")) for n in supernet.space.names]
    supernet.set(supernet.space.smallest)
    untouched = model(x)
    supernet.set(Subnet(tuple(scalar if a else LayerConfig() for a in adds)))
    assert torch.allclose(model(x), untouched, rtol=0, atol=1e-6) is same
    supernet.set(Subnet(tuple(LayerConfig() if a else scalar for a in adds)))
    assert not torch.allclose(model(x), untouched, rtol=0, atol=1e-3)
