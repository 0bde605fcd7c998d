"""Soups, subnets with fractional gates: merged they are the average of their members, on ViT, Swin and convolutions."""

import json
import math
import random

import peft
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from glora import LayerSpec, MergedEvaluator, SearchSpace, Soup, Subnet, Supernet
from glora.export import export_model
from glora.fold import feeding_norm
from glora.methods import METHODS
from glora.options import config_params
from glora.peft_export import export_peft
from glora.winner import average, mean

VIT = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
SWIN = {"img_size": 56, "embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 2, 2)}
CONV = {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}
MODELS = {"vit": ("vit_tiny_patch16_224", VIT, 16), "swin": ("swin_tiny_patch4_window7_224", SWIN, 56),
          "conv": ("convnext_atto", CONV, 32)}  # fmt: skip


def plain(kind, seed=0):
    torch.manual_seed(seed)
    name, kwargs, _ = MODELS[kind]
    return timm.create_model(name, num_classes=3, **kwargs).double().eval()


def filled(kind, static=False, ranks=(4, 2)):
    supernet = Supernet(plain(kind), ranks, convs=kind == "conv")
    if static:
        supernet.use_static_graph()
    torch.manual_seed(1)
    for parameter in supernet.trainable().values():
        nn.init.normal_(parameter, std=0.1)
    return supernet


def images(kind):
    torch.manual_seed(2)
    size = MODELS[kind][2]
    return torch.randn(2, 3, size, size, dtype=torch.double)


def members(space, count=5):
    rng = random.Random(0)
    return [space.largest, *(space.sample(rng) for _ in range(count - 1))]


def layers_of(model, reference, names):
    """Weight and bias of each layer, biases that went into a LayerNorm brought back: W times what beta moved by."""
    found = {}
    for name in names:
        layer, norm = model.get_submodule(name), feeding_norm(model, name)
        bias = layer.bias
        if bias is None and norm is not None:
            bias = layer.weight @ (norm.bias - reference.get_submodule(name.rpartition(".")[0]).norm.bias)
        found[name] = layer.weight, torch.zeros(len(layer.weight)).double() if bias is None else bias
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_a_soups_merge_is_the_average_of_its_members_merges(kind):
    supernet, reference = filled(kind), plain(kind)
    chosen = members(supernet.space)
    soup = average(supernet.space, chosen)
    names = supernet.space.names
    each = [layers_of(supernet.merge(m), reference, names) for m in chosen]
    merged, written = supernet.merge(soup), MergedEvaluator(supernet).write(soup)
    for model in (merged, written):
        found = layers_of(model, reference, names)
        for name in names:
            for got, parts in zip(found[name], zip(*(e[name] for e in each), strict=True), strict=True):
                torch.testing.assert_close(got, torch.stack(parts).mean(0), rtol=0, atol=1e-12, msg=name)
    fresh = plain(kind, seed=9)
    fresh.load_state_dict(merged.state_dict(), strict=True)  # the architecture stays


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_the_adapted_model_the_merged_one_and_the_evaluators_compute_the_same_soup(kind, static):
    supernet, x = filled(kind, static), images(kind)
    evaluator, untouched = MergedEvaluator(supernet), plain(kind)(x)
    for soup in (average(supernet.space, members(supernet.space, 3)), mean(supernet.space)):
        supernet.set(soup)
        assert supernet.current == soup
        adapted = supernet.model(x)
        assert (adapted - untouched).abs().max() > 1e-3
        torch.testing.assert_close(supernet.merge()(x), adapted, rtol=0, atol=1e-9)
        torch.testing.assert_close(evaluator.write(soup)(x), adapted, rtol=0, atol=1e-9)
    subnet = supernet.sample(random.Random(1))  # and a subnet after it is a subnet again
    torch.testing.assert_close(supernet.model(x), supernet.merge(subnet)(x), rtol=0, atol=1e-9)
    torch.testing.assert_close(evaluator.write(subnet)(x), supernet.model(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_a_soup_of_one_is_that_subnet_in_function_size_and_words(kind):
    supernet, x = filled(kind), images(kind)
    for subnet in [*members(supernet.space), supernet.space.smallest]:
        soup = average(supernet.space, [subnet, subnet])
        torch.testing.assert_close(supernet.merge(soup)(x), supernet.merge(subnet)(x), rtol=0, atol=1e-12)
        assert supernet.space.sizes(soup) == supernet.space.sizes(subnet)
        assert supernet.space.choices(soup) == supernet.space.choices(subnet)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_gradients_of_a_soups_branch_form_are_those_of_autograd_through_the_average(kind):
    supernet, x = filled(kind), images(kind)
    chosen = members(supernet.space, 3)
    supernet.set(average(supernet.space, chosen))
    supernet.model(x).square().sum().backward()
    layer = supernet.layers[supernet.space.names[0]]
    got = layer.Ad.grad, layer.Bu.grad, layer.E.grad
    weight = torch.stack([layer.merged_weight(m.layers[0]) for m in chosen]).mean(0)
    bias = torch.stack([layer.merged_bias(m.layers[0]) for m in chosen]).mean(0)
    supernet.model.zero_grad()
    layer.forward = lambda v: nn.functional.linear(v, weight, bias)
    supernet.model(x).square().sum().backward()
    for one, other in zip(got, (layer.Ad.grad, layer.Bu.grad, layer.E.grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", MODELS)
def test_json_is_readable_exact_and_refuses_what_is_not_of_this_model(kind):
    space = filled(kind).space
    soup = average(space, members(space, 3))
    text = space.to_json(soup)
    assert space.from_json(text) == soup and hash(space.from_json(text)) == hash(soup)
    raw = json.loads(text)
    assert raw["version"] == 1 and list(raw["layers"]) == list(space.names)
    assert raw["layers"] == space.gates(soup) and len(text.splitlines()) == len(space.names) + 6
    subnet = space.sample(random.Random(0))
    assert space.from_json(space.to_json(subnet)) == subnet
    first = space.names[0]
    for change, words in [
        ({"version": 2}, "version 2, this program reads 1"),
        ({"layers": {}}, "not the model's"),
        ({"layers": None}, "layers=None .*an object"),
        ({"layers": raw["layers"] | {first: {}}}, f"lacks layers.{first}.A, layers.{first}.B"),
        ({"layers": raw["layers"] | {first: raw["layers"][first] | {"D": {"vector": "x", "scalar": 0}}}},
         f"layers.{first}.D.vector='x' .*valid number"),
        ({"layers": raw["layers"] | {first: raw["layers"][first] | {"D": {"vector": 1e30, "scalar": 0}}}},
         "less than or equal to 100"),
        ({"layers": raw["layers"] | {first: raw["layers"][first] | {"C": {"vector": 0, "ranks": [1]}}}}, "one length"),
        ({"layers": raw["layers"] | {first: raw["layers"][first] | {"D": {"vector": math.nan, "scalar": 0}}}},
         "finite"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=words):
            space.from_json(json.dumps(raw | change))


def test_gates_outside_the_space_are_refused():
    ab = Supernet(plain("vit"), (4, 2), tensors="AB")
    soup = average(filled("vit").space, members(filled("vit").space))
    with pytest.raises(ValueError, match=r"gates of C, D, E, which is not in the space"):
        ab.set(soup)
    with pytest.raises(ValueError, match="gates for rank 4, the space for rank 2"):
        filled("vit", ranks=(2,)).set(soup)
    with pytest.raises(ValueError, match="layers"):
        ab.set(Soup(soup.layers[:1]))
    with pytest.raises(ValueError, match="one row of gates per layer"):
        Soup((soup.layers[0], soup.layers[1][:-1]))
    bare = SearchSpace((LayerSpec("l", 4, 6, bias=False),), (2, 1))
    with pytest.raises(ValueError, match="gates of D"):
        bare.check(
            average(
                SearchSpace((LayerSpec("l", 4, 6),), (2, 1)), [SearchSpace((LayerSpec("l", 4, 6),), (2, 1)).largest]
            )
        )


def kept(layer, row):
    """The tensors to store of a layer once the gates are multiplied in, and the W and b that they alone make."""
    rank, d_out = layer.max_rank, layer.out_features
    masks, flags = torch.tensor(row[: 3 * rank], dtype=torch.double).view(3, rank), row[3 * rank :]
    tensors, made = [], {}
    for i, (key, down, up) in enumerate(
        (("A", layer.Ad, layer.Au), ("B", layer.Bd, layer.Bu), ("C", layer.Cd, layer.Cu))
    ):
        vector, scalar = (flags[4], 0.0) if key == "C" else flags[2 * i : 2 * i + 2]
        columns = [k for k in range(rank) if masks[i, k]]
        made[key] = torch.zeros(len(down), up.shape[1], dtype=torch.double)
        for k in columns:
            pair = down[:, k : k + 1], masks[i, k] * up[k : k + 1] + (vector if k == 0 else 0)
            tensors += pair
            made[key] = made[key] + pair[0] @ pair[1]
        if vector and 0 not in columns:
            tensors.append(vector * down[:, 0] + scalar * down[0, 0])
            made[key] = made[key] + tensors[-1][:, None]
        elif scalar:
            tensors.append(scalar * down[:1, :1])
            made[key] = made[key] + tensors[-1]
    for key, whole, (vector, scalar) in (("D", layer.D, flags[5:7]), ("E", layer.E, flags[7:9])):
        made[key] = torch.zeros(d_out, dtype=torch.double)
        if vector or scalar:
            tensors.append(vector * whole + scalar * whole[0] if vector else scalar * whole[:1])
            made[key] = made[key] + tensors[-1]
    weight = layer.weight * (1 + made["A"]) + made["B"]
    bias = made["E"] + layer.weight @ made["C"][:, 0] + (0 if layer.bias is None else layer.bias * (1 + made["D"]))
    return sum(t.numel() for t in tensors), weight, bias


@pytest.mark.parametrize("kind", MODELS)
def test_parameters_are_what_a_soup_stores(kind):
    supernet = filled(kind)
    space, rng = supernet.space, random.Random(4)
    soups = [average(space, [space.sample(rng) for _ in range(n)]) for n in (1, 2, 3, 8)] + [mean(space)]
    for soup in soups:
        sizes = space.sizes(soup)
        for (name, layer), row in zip(supernet.layers.items(), soup.layers, strict=True):
            count, weight, bias = kept(layer, row)
            torch.testing.assert_close(layer.merged_weight(row), weight, rtol=0, atol=1e-12)
            merged = layer.merged_bias(row)
            torch.testing.assert_close(torch.zeros_like(bias) if merged is None else merged, bias, rtol=0, atol=1e-12)
            assert sizes[name] == count
        assert space.params(soup) == sum(sizes.values())
    # Everything is in the mean: the largest subnet, and one number for each scalar beside a LoRA.
    assert space.params(soups[-1]) == space.params_range[1] + 2 * len(space.layers)


def test_words_and_gates_describe_a_soup():
    space = SearchSpace((LayerSpec("l", 4, 6),), (2, 1))
    configs = {str(c): c for c in map(tuple, space.configs(0))}
    assert len(configs) == 900
    lora, none = space.largest, space.smallest
    half = average(space, [lora, none])
    assert space.choices(half) == {"l": dict.fromkeys("ABCDE", "mixed")}
    assert space.gates(half)["l"] == {
        "A": {"ranks": [0.5, 0.5], "vector": 0.0, "scalar": 0.0},
        "B": {"ranks": [0.5, 0.5], "vector": 0.0, "scalar": 0.0},
        "C": {"ranks": [0.5, 0.5], "vector": 0.0},
        "D": {"vector": 0.5, "scalar": 0.0},
        "E": {"vector": 0.5, "scalar": 0.0},
    }
    for config in space.configs(0):
        one = average(space, [Subnet((config,))])
        assert space.choices(one)["l"] == dict(zip("ABCDE", map(str, config), strict=True))
        assert space.params(one) == config_params(config, 4, 6)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_learned_gates_train_grow_nothing_and_still_merge(kind, static):
    supernet, x = filled(kind, static), images(kind)
    soup = average(supernet.space, members(supernet.space, 2)[1:])
    supernet.set(soup)
    before = supernet.model(x).detach()
    gates = supernet.learn_gates()
    assert set(gates) == {f"{name}.gates" for name in supernet.space.names} and supernet.current == soup
    torch.testing.assert_close(supernet.model(x), before, rtol=0, atol=1e-12)
    optimizer = torch.optim.AdamW(gates.values(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        supernet.model(x).square().sum().backward()
        optimizer.step()
    learned = supernet.current
    assert isinstance(learned, Soup) and learned != soup
    zeros = [[g == 0 for g in row] for row in soup.layers]
    assert all(
        g == 0 for row, was in zip(learned.layers, zeros, strict=True) for g, z in zip(row, was, strict=True) if z
    )
    assert supernet.space.params(learned) <= supernet.space.params(soup)
    adapted = supernet.model(x)
    assert (adapted - before).abs().max() > 1e-3
    torch.testing.assert_close(supernet.merge()(x), adapted, rtol=0, atol=1e-9)
    assert supernet.space.from_json(supernet.space.to_json(learned)) == learned
    supernet.set(soup)
    torch.testing.assert_close(supernet.model(x), before, rtol=0, atol=1e-12)
    assert not any(n.endswith(".gates") for n, _ in supernet.model.named_parameters())


def test_the_gradient_of_a_gate_is_that_of_the_merged_model():
    supernet, x = filled("vit"), images("vit")
    supernet.set(average(supernet.space, members(supernet.space, 3)))
    start, gates = supernet.current, supernet.learn_gates()
    supernet.model(x).square().sum().backward()
    got = [g.grad.clone() for g in gates.values()]
    for i in (0, 3):
        for j in range(len(start.layers[i])):
            if not start.layers[i][j]:
                assert got[i][j] == 0
                continue
            sides = []
            for step in (1e-6, -1e-6):
                row = [g + step * (k == j) for k, g in enumerate(start.layers[i])]
                moved = Soup((*start.layers[:i], tuple(row), *start.layers[i + 1 :]))
                sides.append(supernet.merge(moved)(x).square().sum().item())
            assert got[i][j].item() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_a_soup_is_exported_as_a_plain_timm_model(kind, tmp_path):
    supernet, (name, kwargs, size) = filled(kind), MODELS[kind]
    supernet.model.float()
    supernet.set(mean(supernet.space))
    export_model(supernet.merge(), tmp_path, name, kwargs, 3, {"size": size})
    exported = timm.create_model(name, num_classes=3, **kwargs).eval()
    exported.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = images(kind).float()
    torch.testing.assert_close(exported(x), supernet.model(x), rtol=1e-4, atol=1e-4)


def method_of(kind, **options):
    method = METHODS["glora"](plain(kind).float(), ranks=(4, 2), **options)
    torch.manual_seed(1)
    for parameter in method.trainable().values():
        nn.init.normal_(parameter, std=0.1)
    method.model.eval()
    return method


def test_peft_gives_the_same_logits_from_a_soup(tmp_path):
    method, x = method_of("vit"), images("vit").float()
    for soup in (average(method.space, members(method.space, 3)), mean(method.space)):
        method.set(soup)
        export_peft(method, tmp_path)
        loaded = peft.PeftModel.from_pretrained(plain("vit").float(), tmp_path).eval()
        torch.testing.assert_close(loaded(x), method.model(x), rtol=1e-4, atol=1e-5)
        assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == 5


def test_peft_says_what_it_cannot_hold(tmp_path):
    method = method_of("swin")
    method.set(mean(method.space))
    with pytest.raises(ValueError, match="has no bias and gains one through C or E"):
        export_peft(method, tmp_path)
    method = method_of("swin", tensors="AB")
    method.set(mean(method.space))
    export_peft(method, tmp_path)
    x = images("swin").float()
    loaded = peft.PeftModel.from_pretrained(plain("swin").float(), tmp_path).eval()
    torch.testing.assert_close(loaded(x), method.model(x), rtol=1e-4, atol=1e-5)
