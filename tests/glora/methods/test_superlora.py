"""SuperLoRA: counts, factor models and fixed maps against dense float64 evaluations, and HF PEFT's LoRA and LoKr."""

import peft
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from glora.methods import METHODS, NotDefined
from glora.methods.superlora_factors import FactorSpec, fold_side, near_factors
from glora.methods.superlora_projection import hadamard_, project, shuffle
from tests.helpers.small_methods import inputs
from tests.helpers.small_models import build, same

N = 565_248
FORMS = {
    "weight_lora": {"grouping": "weight", "factors": "lora", "fold": False, "rank": 3},
    "weight_lokr": {"grouping": "weight", "factors": "kronecker", "fold": False, "rank": 2},
    "layer_lora": {"grouping": "layer", "factors": "lora", "rank": 3},
    "group_kronecker": {"groups": 3, "factors": "kronecker", "terms": 2, "factor": 4, "rank": 2},
    "group_5_shuffled": {"groups": 5, "rank": 2, "shuffle": True},
    "group_7_projected": {"groups": 7, "rank": 3, "ratio": 0.3, "shuffle": True, "alpha": 0.5, "targets": "all"},
    "tucker_2": {"groups": 1, "rank": 3, "order": 2},
    "tucker_4": {"groups": 2, "rank": 2, "order": 4},
    "tucker_5": {"groups": 1, "rank": 2, "order": 5, "multiple": 2},
}


def make(form, model=None, fill=True):
    model = build("vit") if model is None else model
    torch.manual_seed(1)
    method = METHODS["superlora"](model, **FORMS[form])
    if fill:
        for p in method.trainable().values():
            nn.init.normal_(p, std=0.4)
    return method


@pytest.mark.parametrize(
    ("groups", "ratio", "spec", "count"),
    [
        (1, 1, FactorSpec("tucker", 4, 3), 1_060),
        (1, 1, FactorSpec("tucker", 1, 5), 76),
        (12, 1, FactorSpec("tucker", 5, 3), 8_160),
        (12, 1, FactorSpec("tucker", 5, 4), 11_100),
        (4, 0.01, FactorSpec("tucker", 4, 3), 832),
        (1, 0.01, FactorSpec("tucker", 1, 5), 31),
        (4, 0.5, FactorSpec("lora", 4), 8_512),
        (1, 1, FactorSpec("kronecker", 10, terms=2, factor=6), 5_112),
        (1, 1, FactorSpec("kronecker", 2, terms=2, factor=6), 1_080),
        # These two come out with the side rounded up to a multiple of 128, not with the smallest side.
        (4, 1, FactorSpec("lora", 24, multiple=128), 73_728),
        (1, 1, FactorSpec("lora", 7, multiple=128), 10_752),
    ],
)
def test_published_parameter_counts(groups, ratio, spec, count):
    model = spec.build(-int(-N // groups * ratio // 1), None, torch.empty(0, device="meta"))
    assert groups * sum(p.numel() for p in model.parameters()) == count


def test_sides_and_factors():
    assert [fold_side(n, 3) for n in (1, 8, 9, 27, 28)] == [1, 2, 3, 3, 4] and fold_side(10**15, 5) == 1000
    from peft.tuners.lokr.layer import factorization

    for dimension in (*range(1, 200), 768, 2304, 3072):
        for wanted in (-1, 1, 2, 4, 5, 8, 16):
            assert near_factors(dimension, wanted) == factorization(dimension, wanted), (dimension, wanted)


@pytest.mark.parametrize("form", FORMS)
def test_starts_at_zero_through_exactly_one_zero_tensor_a_group(form):
    method, x = make(form, fill=False), inputs("vit")
    for factor in method.updates.factors:
        assert [n for n, p in factor.named_parameters() if not p.any()] == [factor.zero]
    same(method.model.eval()(x), build("vit")(x))
    F.cross_entropy(method.model(x), torch.tensor([0, 1])).backward()
    for factor in method.updates.factors:  # the zero tensor learns at once, ...
        assert dict(factor.named_parameters())[factor.zero].grad.any()
    filled = make(form)
    F.cross_entropy(filled.model(x), torch.tensor([0, 1])).backward()
    assert all(p.grad.any() for p in filled.trainable().values())  # ... everything once it has left zero


def dense(factor):
    """The factor model's tensor written out index by index, flat."""
    t = dict(factor.named_parameters())
    if "core" in t:
        modes, letters = list(factor.modes), "abcde"
        r, k = letters[: len(modes)], letters[: len(modes)].upper()
        return torch.einsum(",".join([r, *(x + y for x, y in zip(k, r, strict=True))]) + "->" + k, t["core"], *modes)
    if "up" in t:
        return torch.einsum("ir,rj->ij", t["up"], t["down"])
    v = t["v"] if "v" in t else torch.einsum("kir,krj->kij", t["v_up"], t["v_down"])
    return sum(torch.kron(a, b) for a, b in zip(t["u"], v, strict=True))


def matrix(function, size):
    return torch.stack([function(e) for e in torch.eye(size, dtype=torch.double)], 1)


@pytest.mark.parametrize("form", FORMS)
def test_weights_function_and_gradients_are_the_dense_formula(form):
    method, options, x = make(form), FORMS[form], inputs("vit")
    updates, parts, total = method.updates, [], sum(p.size for p in method.updates.pieces)
    for g, factor in enumerate(updates.factors):
        size, ratio = updates.sizes[g], options.get("ratio", 1.0)
        vector = dense(factor).flatten()[: -int(-ratio * size // 1)]
        if ratio < 1:
            vector = matrix(lambda e, n=size, g=g: project(e, n, g), len(vector)) @ vector
        vector = vector[:size]
        if options.get("shuffle"):
            vector = vector[torch.randperm(size, generator=torch.Generator().manual_seed(g))]
        parts.append(vector)
    delta, at, alpha = torch.cat(parts)[:total], 0, options.get("alpha", 1.0)
    base, weights = build("vit"), {}
    for piece in updates.pieces:
        weight = weights.setdefault(piece.layer, base.get_submodule(piece.layer).weight.detach().clone())
        weight[piece.start : piece.end] += alpha * delta[at : at + piece.size].view(piece.shape)
        at += piece.size
    merged = method.merge()
    for layer, weight in weights.items():
        same(merged.get_submodule(layer).weight, weight.detach())
    state = {f"{layer}.weight": w for layer, w in weights.items()} | method.head_parameters()
    expected = torch.func.functional_call(base, state, x)
    actual = method.model.eval()(x)
    same(actual, expected)
    same(merged(x), expected)
    named = list(method.trainable().values())
    probe = torch.randn(2, 5, dtype=torch.double, generator=torch.Generator().manual_seed(5))
    for got, want in zip(
        torch.autograd.grad(actual, named, probe), torch.autograd.grad(expected, named, probe), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    same(method.model(x), expected)  # the second pass builds its groups again
    with torch.no_grad():
        same(method.model(x), expected)


def test_hadamard_projection_and_shuffle_are_fixed_linear_maps():
    h = matrix(lambda e: hadamard_(e.clone()), 16)
    same(h @ h.T, torch.eye(16, dtype=torch.double))
    assert set((h * 4).round().unique().tolist()) == {-1, 1}
    p = matrix(lambda e: project(e, 100, 7), 12)
    assert p.shape == (100, 12) and torch.linalg.matrix_rank(p) == 12
    x = torch.randn(12, dtype=torch.double)
    same(project(x, 100, 7), p @ x)
    assert not torch.equal(project(x, 100, 8), p @ x)
    wide = matrix(lambda e: project(e, 4096, 0), 32)
    assert (wide.T @ wide / 128 - torch.eye(32)).abs().max() < 0.15  # entries of variance 1/n: near-isometry
    assert sorted(shuffle(x, 3).tolist()) == sorted(x.tolist()) and not torch.equal(shuffle(x, 3), x)


def peft_model(config, method, copy):
    reference = peft.get_peft_model(build("vit"), config).double().eval()
    with torch.no_grad():
        for i in range(2):
            layer = reference.get_submodule(f"base_model.model.blocks.{i}.attn.proj")
            index = [p.layer for p in method.updates.pieces].index(f"blocks.{i}.attn.proj")
            copy(layer, method.updates.factors[index])
        for n, p in method.head_parameters().items():
            reference.get_parameter(f"base_model.model.{n}").copy_(p)
    return reference


@pytest.mark.parametrize("kind", ["lora", "lokr"])
def test_weight_wise_without_fold_is_hf_pefts_layer(kind):
    factors = "lora" if kind == "lora" else "kronecker"
    model = build("vit")
    torch.manual_seed(1)
    method = METHODS["superlora"](model, "weight", factors=factors, fold=False, rank=3, alpha=0.5, targets="all")
    for n, p in method.trainable().items():
        index = int(n.split(".")[2]) if n.startswith("superlora") else -1
        mine = index >= 0 and method.updates.pieces[index].layer.endswith("attn.proj")
        nn.init.normal_(p, std=0.4) if mine or index < 0 else nn.init.zeros_(p)

    def lora(layer, f):
        layer.lora_A["default"].weight.copy_(f.down)
        layer.lora_B["default"].weight.copy_(f.up)

    def lokr(layer, f):
        layer.lokr_w1["default"].copy_(f.u[0])
        if f.full:
            layer.lokr_w2["default"].copy_(f.v[0])
        else:
            layer.lokr_w2_a["default"].copy_(f.v_up[0])
            layer.lokr_w2_b["default"].copy_(f.v_down[0])

    config = {
        "lora": lambda: peft.LoraConfig(r=3, lora_alpha=1.5, target_modules=["attn.proj"]),
        "lokr": lambda: peft.LoKrConfig(r=3, alpha=1.5, target_modules=["attn.proj"]),
    }[kind]()
    reference = peft_model(config, method, {"lora": lora, "lokr": lokr}[kind])
    same(method.model.eval()(inputs("vit")), reference(inputs("vit")))


@pytest.mark.parametrize(
    "options",
    [{"grouping": "rows"}, {"targets": "k"}, {"factors": "cp"}, {"order": 6}, {"ratio": 0.0}, {"groups": 0},
     {"fold": False}, {"factors": "lora", "fold": False}, {"factors": "kronecker"}, {"rank": 0}],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(ValueError, match="method=superlora: "):
        METHODS["superlora"](build("vit"), **options)


def test_a_model_without_blocks_is_refused():
    with pytest.raises(NotDefined, match="method=superlora"):
        METHODS["superlora"](nn.Sequential(nn.Linear(4, 4)))
