"""Every registered method on a tiny ViT and Swin: start, training, counts, merge, save and load; independent formulas.

A new method needs an entry in `START`, `VIT_B` and `SWIN_B` or, if it is not defined on a Swin, `NOT_ON_SWIN`.
"""

import inspect
import itertools

import peft
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import nn

from glora.methods import METHODS, NotDefined, NotMergeable
from tests.helpers.small_methods import build, filled, inputs, layer, make
from tests.helpers.small_models import SMALL, same

# Where training starts: at the pre-trained function, or elsewhere (prompts, or matrices that are not zero).
ELSEWHERE = ("ssf", "vpt_shallow", "vpt_deep", "adapter", "adapter_plus", "noah")
START = dict.fromkeys(METHODS, "pretrained") | dict.fromkeys(ELSEWHERE, "elsewhere")
VIT_B = {
    "full": 85_798_656,
    "linear": 0,
    "bitfit": 102_912,
    "vpt_shallow": 76_800,
    "vpt_deep": 460_800,
    "adapter": 156_768,
    "adaptformer": 156_768,
    "adapter_plus": 165_984,
    "lora": 294_912,
    "noah": 654_456,
    "fact_tt": 1536 * 16 + 144 * 16**2,
    "fact_tk": 86_528,
    "ssf": 205_824,
    "repadapter": 239_808,
    "superlora": 8 * (8**3 + 3 * 8 * 121),
    "glora": 3_041_664,
    "glora_subnet": 3_041_664,
}
WIDTHS = {128: 2, 256: 2, 512: 18, 1024: 2}
"""Swin-B's widths d and how many blocks have them."""


def over_blocks(count):
    return sum(n * count(d) for d, n in WIDTHS.items())


SWIN_B = {
    "full": 86_743_224,
    "linear": 0,
    "bitfit": 137_216,
    "ssf": 274_432,
    "repadapter": 313_216,
    "glora": 4_087_832,
    "glora_subnet": 4_087_832,
    "lora": over_blocks(lambda d: 8 * (d + 3 * d)),
    "adapter": over_blocks(lambda d: 2 * 8 * d + 8 + d),
    "adaptformer": over_blocks(lambda d: 2 * 8 * d + 8 + d),
    "adapter_plus": over_blocks(lambda d: 2 * 8 * d + 8 + 2 * d),
    "vpt_deep": over_blocks(lambda d: 50 * d),
    "vpt_shallow": 100 * 128,
    # per width U and V (d, r); TT: cores (12 n, r, r); TK: core (r, r, r) and mix (12 n, r)
    "fact_tt": sum(2 * d * 16 + 12 * n * 16**2 for d, n in WIDTHS.items()),
    "fact_tk": sum(2 * d * 32 + 32**3 + 12 * n * 32 for d, n in WIDTHS.items()),
    "superlora": 8 * (8**3 + 3 * 8 * 121),  # the cube's side for an eighth of 13,959,168 numbers
}
NOT_ON_SWIN = {"noah"}
BOTH = [(k, m) for k in SMALL for m in METHODS if not (k == "swin" and m in NOT_ON_SWIN)]


def on_meta(timm_name, name, **options):
    with torch.device("meta"):
        model = timm.create_model(timm_name, num_classes=10)
    return METHODS[name](model, **options)


def test_every_method_has_an_expectation():
    assert START.keys() == METHODS.keys() == VIT_B.keys() == SWIN_B.keys() | NOT_ON_SWIN
    assert all(k == m.name for k, m in METHODS.items())


@pytest.mark.parametrize("name", METHODS)
def test_parameters_without_head_on_the_published_backbones(name):
    assert on_meta("vit_base_patch16_224", name).params() == VIT_B[name]
    if name not in NOT_ON_SWIN:
        assert on_meta("swin_base_patch4_window7_224", name).params() == SWIN_B[name]


@pytest.mark.parametrize(("rank", "tt", "tk"), [(4, 8_448, None), (8, 21_504, None), (16, 61_440, 30_976)])
def test_fact_counts_by_rank(rank, tt, tk):
    assert on_meta("vit_base_patch16_224", "fact_tt", rank=rank).params() == tt
    assert tk is None or on_meta("vit_base_patch16_224", "fact_tk", rank=rank).params() == tk


def test_lora_forms_and_repadapter_places_have_their_counts():
    assert on_meta("vit_base_patch16_224", "lora", form="qv").params() == 294_912
    assert on_meta("vit_base_patch16_224", "repadapter", place="attention").params() == 12 * 9_992


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_starts_where_it_should(kind, name):
    x, reference, method = inputs(kind), build(kind), make(kind, name)
    gap = (method.model.eval()(x) - reference(x)).abs().max().item()
    assert gap < 1e-12 if START[name] == "pretrained" else gap > 1e-6


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("name", sorted(NOT_ON_SWIN | {"lora", "fact_tk", "ssf", "repadapter"}))
def test_where_it_is_undefined_it_is_refused(kind, name):
    with pytest.raises(NotDefined, match=f"method={name}"):
        METHODS[name](nn.Sequential(nn.Linear(4, 4)))
    if kind == "swin" and name in NOT_ON_SWIN:
        with pytest.raises(NotDefined, match=f"method={name}"):
            make(kind, name)


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_every_declared_parameter_gets_a_gradient_and_nothing_else_moves(kind, name):
    method = filled(kind, name)
    named, declared = dict(method.model.named_parameters()), method.trainable()
    assert declared.keys() <= named.keys() and all(named[n] is p for n, p in declared.items())
    assert {n for n, p in named.items() if p.requires_grad} == declared.keys()
    assert method.head_parameters().keys() <= declared.keys() and method.no_decay() <= declared.keys()
    before = {n: p.detach().clone() for n, p in named.items()}
    optimizer = torch.optim.AdamW(declared.values(), lr=1e-2)
    method.model.train(not method.eval_backbone)
    for module in method.model.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0  # it may drop both samples, and with them a gradient
    F.cross_entropy(method.model(inputs(kind)), torch.tensor([0, 1])).backward()
    without = {n for n, p in declared.items() if p.grad is None or not p.grad.any()}
    assert not without
    optimizer.step()
    assert {n for n, p in named.items() if not torch.equal(p, before[n])} == declared.keys()


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_merge_is_the_same_function_in_an_untouched_model_or_is_refused(kind, name):
    method, x = filled(kind, name), inputs(kind)
    if not method.mergeable:
        with pytest.raises(NotMergeable, match=name):
            method.merge()
        return
    expected = method.model.eval()(x)
    assert (expected - build(kind)(x)).abs().max() > 1e-3
    plain = build(kind, seed=9)
    plain.load_state_dict(method.merge().state_dict(), strict=True)
    torch.testing.assert_close(plain(x), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(method.model(x), expected, rtol=0, atol=0)  # merging changed nothing
    method.model.float()
    single = method.merge().eval()(x.float())
    rounding = 64 * torch.finfo(torch.float32).eps * expected.abs().max().item()  # a few dozen rounded sums deep
    for logits in (single, method.model(x.float())):
        torch.testing.assert_close(logits.double(), expected, rtol=0, atol=rounding)


@pytest.mark.parametrize(("kind", "name"), BOTH)
def test_saved_state_holds_what_trains_and_restores_the_function(kind, name):
    method, other, x = filled(kind, name), make(kind, name), inputs(kind)
    state = method.state_dict()
    assert state.keys() == method.trainable().keys()
    other.load_state_dict(state)
    if name == "glora":
        other.supernet.set(method.supernet.current)
    assert torch.equal(other.model.eval()(x), method.model.eval()(x))
    with pytest.raises(ValueError, match="do not fit"):
        other.load_state_dict({k: v for k, v in list(state.items())[1:]})


@pytest.mark.parametrize("name", METHODS)
def test_options_are_the_constructors_and_are_checked(name):
    kind = METHODS[name]
    assert kind.options().keys() == inspect.signature(kind).parameters.keys() - {"model"}
    assert kind.check_options({}) == kind.options()
    with pytest.raises(ValueError, match=f"method={name} has no option 'sacle'"):
        kind.check_options({"sacle": 1})
    for key, default in kind.options().items():
        with pytest.raises(ValueError, match=f"option {key}="):
            kind.check_options({key: [default]})


def test_noahs_effective_init_of_lora_draws_both_matrices_and_leaves_the_pretrained_function():
    method, x = make("vit", "lora", effective_noah_init=True), inputs("vit")
    drawn = torch.cat([p.detach().flatten() for n, p in method.trainable().items() if ".down." in n or ".up." in n])
    assert drawn.std().item() == pytest.approx(0.02, rel=0.1) and drawn.abs().min() > 0
    assert (method.model.eval()(x) - build("vit")(x)).abs().max() > 1e-6


def test_dropout_acts_in_training_alone():
    for name in ("lora", "fact_tt", "fact_tk", "repadapter"):
        method, x = filled("vit", name, dropout=0.5), inputs("vit")
        assert torch.equal(method.model.eval()(x), method.model(x))
        assert not torch.equal(method.model.train()(x), method.model(x))


# Formulas written out a second time, layer by layer, in float64.


def tucker_core(core, mix, slot, chunk, part):
    """The published FacT-TK's core of one chunk, entry by entry, as it multiplies columns; `slot` is the part's first.

    Its (r, r, 4) slices of the MLP are viewed row-major as (r, 4 r), and chunk c has the columns f = c r + i of that.
    """
    r, made = len(core), torch.empty_like(core[0])
    for a, i in itertools.product(range(r), repeat=2):
        f = chunk * r + i
        b, n = (f // 4, f % 4) if part.startswith("mlp") else (i, chunk)
        made[a, i] = sum(core[a, b, k] * mix[k, slot + n] for k in range(r))
    return made if part == "mlp.fc2" else made.T  # rows times core, and fc2's is transposed once more


@pytest.mark.parametrize("form", ["tt", "tk"])
@pytest.mark.parametrize(("part", "slot"), [("attn.qkv", 0), ("attn.proj", 3), ("mlp.fc1", 4), ("mlp.fc2", 8)])
@pytest.mark.parametrize("rank", [3, 8])
def test_fact_is_its_dense_formula(form, part, slot, rank):
    method, adapted, base, x = layer(f"fact_{form}", part, rank=rank, scale=0.7)
    state, d = {k.split(".")[-1]: v for k, v in method.state_dict().items() if k.startswith("fact.")}, 32
    delta = torch.zeros_like(base.weight)
    for i in range(max(delta.shape) // d):
        if form == "tt":
            core = state["cores"][1, slot + i]
        else:
            core = tucker_core(state["core"], state["mix"], 12 + slot, i, part)
        block = state["v"] @ core @ state["u"]
        (delta.T if part == "mlp.fc2" else delta)[i * d : (i + 1) * d] = block.T if part == "mlp.fc2" else block
    same(adapted(x), x @ (base.weight + 0.7 * delta).T + base.bias)


def test_ssf_is_its_formula():
    for part in ("attn.qkv", "norm1"):
        _, adapted, base, x = layer("ssf", part)
        same(adapted(x), base(x) * adapted.gamma + adapted.beta)


def test_repadapter_is_its_dense_formula():
    _, adapted, base, x = layer("repadapter", "mlp.fc1", scale=0.5)
    up = torch.zeros(32, 8, dtype=torch.double)
    up[:16, :4], up[16:, 4:] = adapted.up[0].detach(), adapted.up[1].detach()
    z = x + 0.5 * ((x @ adapted.down.T + adapted.down_bias) @ up.T + adapted.up_bias)
    same(adapted(z * 0 + x), base(z))


def test_lora_equals_hf_peft():
    _, adapted, base, x = layer("lora", "attn.qkv", scale=0.5)
    config = peft.LoraConfig(r=8, lora_alpha=4, target_modules=["0"])
    model = peft.get_peft_model(nn.Sequential(base), config).double().eval()
    named = dict(model.named_parameters())
    with torch.no_grad():
        for n, p in named.items():
            if "lora_" in n:
                p.copy_(adapted.down[0] if "lora_A" in n else adapted.up[0])
    same(adapted(x), model(x))
