"""One subnet of the space: trained alone as a plain method, or tuned on from a supernet's weights."""

import json
import random

import peft
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from glora import LayerConfig, MergedEvaluator, Option, Subnet, Supernet
from glora.methods import METHODS
from glora.methods.glora import GLoRA
from glora.methods.glora_subnet import GLoRASubnet
from glora.methods.noah import NOAH
from glora.options import config_params
from glora.peft_export import export_peft
from glora.recipe import Recipe
from glora.train import Trainer

MODELS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}),
    "swin": ("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)}),
    "conv": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}),
}
SIZE = {"vit": 32, "swin": 56, "conv": 32}
CHOICES = "A=scalar,B=lora_4,C=vector,D=vector,E=scalar"


def build(kind="vit", seed=0):
    torch.manual_seed(seed)
    name, kwargs = MODELS[kind]
    model = timm.create_model(name, num_classes=3, **kwargs).double().eval()
    with torch.no_grad():
        for module in model.modules():
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=0.1)
    return model


def supernet_of(kind="vit"):
    """A supernet with every tensor away from its start."""
    made = GLoRA(build(kind), ranks=(4, 2), convs=kind == "conv")
    torch.manual_seed(1)
    with torch.no_grad():
        for p in made.trainable().values():
            p.add_(torch.randn_like(p), alpha=0.1)
    return made


def inputs(kind="vit", count=2):
    g = torch.Generator().manual_seed(2)
    return torch.randn(count, 3, SIZE[kind], SIZE[kind], dtype=torch.double, generator=g)


def data(kind="vit", count=24):
    g = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 3, SIZE[kind], SIZE[kind]), dtype=torch.uint8, generator=g)
    return images, torch.arange(count) % 3


def normalize(images):
    return images.double() / 255 - 0.5


def used(space, subnet):
    """What each stored tensor's used part is, by name: from the formula of equation 10 and the sharing of storage."""
    found = {}
    for spec, config in zip(space.layers, subnet.layers, strict=True):
        for tensor, option in zip("ABCDE", config, strict=True):
            leading = {"lora": option.rank, "vector": 1, "scalar": 1}
            if option.kind == "none":
                continue
            one = slice(1) if option.kind == "scalar" else slice(None)
            if tensor in "DE":
                found[f"{spec.name}.{tensor}"] = (one,)
                continue
            found[f"{spec.name}.{tensor}d"] = (one, slice(leading[option.kind]))
            if option.kind == "lora":
                found[f"{spec.name}.{tensor}u"] = (slice(option.rank),)
    return found


@pytest.mark.parametrize("kind", MODELS)
def test_a_kept_subnet_computes_the_same_and_stores_what_it_uses_and_no_more(kind):
    for seed in range(6):
        made = supernet_of(kind)
        space, x, state = made.space, inputs(kind), made.state_dict()
        subnet = space.sample(random.Random(seed))
        made.set(subnet)
        made.model.eval()
        before, merged = made.model(x), made.merge().eval()(x)
        made.keep(subnet)
        parts = used(space, subnet)
        head = made.head_parameters().keys()
        kept = made.state_dict()
        assert kept.keys() == parts.keys() | head and made.params() == space.params(subnet)
        assert all(torch.equal(kept[n], state[n][part]) for n, part in parts.items())
        assert {n for n, p in made.model.named_parameters() if p.requires_grad} == kept.keys()
        torch.testing.assert_close(made.model(x), before, rtol=0, atol=1e-12)
        torch.testing.assert_close(made.merge().eval()(x), merged, rtol=0, atol=1e-12)
        torch.testing.assert_close(MergedEvaluator(made.supernet).write(subnet)(x), merged, rtol=0, atol=1e-9)

        other = supernet_of(kind)
        other.keep(subnet)
        with torch.no_grad():
            for p in other.trainable().values():
                p.zero_()
        other.load_state_dict(kept)
        assert torch.equal(other.model.eval()(x), made.model(x))
        with pytest.raises(ValueError, match="do not fit"):
            supernet_of(kind).load_state_dict(kept)


def test_a_model_that_keeps_one_subnet_computes_no_other():
    made = supernet_of()
    one, other = (made.space.sample(random.Random(seed)) for seed in range(2))
    made.keep(one)
    for refused in (made.set, made.keep, made.supernet.merge, made.evaluator().write):
        with pytest.raises(ValueError, match="keeps one subnet, and this is another"):
            refused(other)
    made.before_step(random.Random(5))
    assert made.supernet.current == one
    with pytest.raises(ValueError, match="not in the space"):
        supernet_of().keep(Subnet((LayerConfig(B=Option("lora", 3)),) * len(made.space.layers)))


def test_the_static_graph_and_a_kept_subnet_go_together():
    for static_first in (True, False):
        made = supernet_of()
        made.model.float()
        subnet = made.space.sample(random.Random(0))
        steps = (made.use_static_graph, lambda m=made, s=subnet: m.keep(s))
        for step in steps if static_first else steps[::-1]:
            step()
        made.set(subnet)
        expected = supernet_of()
        expected.set(subnet)
        torch.testing.assert_close(
            made.model.eval()(inputs().float()).double(), expected.model.eval()(inputs()), rtol=0, atol=1e-4
        )


def tuned(kind, epochs, stop=None, ema=None):
    """A tuned subnet of a supernet and its tensors; with `stop`, the run was killed and resumed there."""

    def fresh():
        made = supernet_of(kind)
        subnet = made.space.sample(random.Random(4))
        made.keep(subnet)
        recipe = Recipe(lr=5e-3, epochs=4, warmup_epochs=1, batch_size=8, weight_decay=0.1, ema=ema)
        return made, Trainer(made.model, made.trainable(), recipe, normalize, 7)

    made, trainer = fresh()
    if stop is not None:
        _, before = fresh()
        for _ in range(stop):
            before.train_epoch(*data(kind))
        trainer.load_state(before.state())
    while trainer.epoch < epochs:
        trainer.train_epoch(*data(kind))
    with trainer.evaluated():
        return made, made.state_dict()


@pytest.mark.parametrize("kind", MODELS)
def test_tuning_moves_the_winners_tensors_and_the_head_and_nothing_else(kind):
    plain = supernet_of(kind)
    frozen = {n: p for n, p in plain.model.named_parameters() if n not in plain.trainable()}
    subnet = plain.space.sample(random.Random(4))
    start = plain.state_dict()
    made, found = tuned(kind, 4)
    named = dict(made.model.named_parameters())
    assert all(torch.equal(named[n], p) for n, p in frozen.items())
    parts = used(plain.space, subnet) | dict.fromkeys(made.head_parameters(), (slice(None),))
    assert found.keys() == parts.keys()
    # B as a scalar may have no effect on the loss; with decay every tensor that trains moves all the same.
    assert all(not torch.equal(found[n], start[n][part]) for n, part in parts.items())
    # The supernet with the tuned tensors in their places is the same function: nothing else was needed.
    with torch.no_grad():
        for name, part in parts.items():
            plain.trainable()[name][part] = found[name]
    plain.set(subnet)
    torch.testing.assert_close(plain.model.eval()(inputs(kind)), made.model.eval()(inputs(kind)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("ema", [None, 0.9])
def test_resumed_tuning_is_bit_identical(ema):
    _, whole = tuned("vit", 4, ema=ema)
    for stop in (1, 3):
        _, resumed = tuned("vit", 4, stop, ema)
        assert all(torch.equal(t, resumed[n]) for n, t in whole.items())


def test_tuning_is_the_plain_training_of_that_subnet_from_the_inherited_weights():
    made, found = tuned("vit", 4)
    plain = GLoRASubnet(build(), ranks=(4, 2), subnet=made.space.to_json(made.supernet.current))
    start = supernet_of()
    start.keep(made.supernet.current)
    plain.load_state_dict(start.state_dict())
    recipe = Recipe(lr=5e-3, epochs=4, warmup_epochs=1, batch_size=8, weight_decay=0.1)
    trainer = Trainer(plain.model, plain.trainable(), recipe, normalize, 7, plain.before_step)
    for _ in range(4):
        trainer.train_epoch(*data())
    assert all(torch.equal(t, found[n]) for n, t in plain.state_dict().items())


def test_noah_says_that_it_cannot_keep_its_winner():
    made = NOAH(build())
    with pytest.raises(ValueError, match="method=noah cannot hold one of its subnets alone"):
        made.keep(made.space.largest)


# The plain method.


def fixed(kind="vit", **options):
    torch.manual_seed(1)
    made = GLoRASubnet(build(kind), **{"ranks": (8, 4), "convs": kind == "conv", **options})
    made.model.eval()
    return made


@pytest.mark.parametrize("kind", MODELS)
def test_choices_hold_for_every_layer_but_d_where_there_is_no_bias(kind):
    made = fixed(kind, subnet=CHOICES)
    everywhere = LayerConfig.parse(["scalar", "lora_4", "vector", "vector", "scalar"])
    without = LayerConfig.parse(["scalar", "lora_4", "vector", "none", "scalar"])
    specs = made.supernet.space.layers
    assert made.supernet.current.layers == tuple(everywhere if s.bias else without for s in specs)
    count = sum(config_params(everywhere if s.bias else without, s.d_in, s.d_out) for s in specs)
    assert made.params() == count == sum(t.numel() for n, t in made.state_dict().items() if "head" not in n)


@pytest.mark.parametrize("subnet", ["largest", CHOICES])
def test_it_starts_where_a_supernet_of_the_same_seed_starts(subnet):
    made = fixed(subnet=subnet)
    torch.manual_seed(1)
    supernet = Supernet(build(), [8, 4])
    supernet.keep(made.supernet.current)
    assert all(torch.equal(t, made.state_dict()[n]) for n, t in supernet.state_dict().items())
    torch.testing.assert_close(made.model(inputs()), build()(inputs()), rtol=0, atol=1e-12)


def test_a_file_and_its_content_are_one_run_and_a_home_is_found(tmp_path, monkeypatch):
    made = fixed(subnet="B=vector")
    space = made.supernet.space
    subnet = space.sample(random.Random(0))
    (tmp_path / "subnet.json").write_text(space.to_json(subnet))
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [GLoRASubnet.check_options({"subnet": text}) for text in
             (str(tmp_path / "subnet.json"), "~/subnet.json", space.to_json(subnet))]  # fmt: skip
    assert found[0] == found[1] == found[2] == GLoRASubnet.check_options(found[0])
    one, other = fixed(**found[0]), fixed(subnet="~/subnet.json")
    assert one.supernet.current == other.supernet.current == subnet
    assert one.params() == space.params(subnet)
    label = GLoRASubnet.row_label(found[0])
    (tmp_path / "subnet.json").write_text(space.to_json(space.sample(random.Random(1))))
    changed = GLoRASubnet.check_options({"subnet": "~/subnet.json"})
    assert changed != found[0] and GLoRASubnet.row_label(changed) != label


def test_labels_say_what_is_trained():
    def label(**options):
        return GLoRASubnet.row_label(GLoRASubnet.check_options(options))

    assert label() == "GLoRA largest [8,4]"
    assert label(subnet=" E=vector, B=lora_8 ".strip()) == "GLoRA B=lora_8,E=vector"
    assert label(ranks=[2], tensors="AB", convs=True) == "GLoRA largest [2] (AB, convolutions too)"
    assert label(subnet='{"fc": ["none", "lora_4", "none", "none", "none"]}').startswith("GLoRA subnet ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subnet": "nowhere.json"}, "no file that can be read .*; write largest, choices for every layer such as B="),
        ({"subnet": "biggest"}, "no file that can be read"),
        ({"subnet": ""}, "no file that can be read"),
        ({"subnet": "B=lora_3"}, r"B=lora_3 is not in the space \(allowed: lora_8, lora_4, vector, scalar, none\)"),
        ({"subnet": "A=vector", "tensors": "BC"}, r"A=vector is not in the space \(allowed: none\)"),
        ({"subnet": "B=lora"}, "'lora' is not an option; allowed: lora_<rank>, vector, scalar, none"),
        ({"subnet": "F=vector"}, "'F=vector' is not <tensor>=<option> with each of A, B, C, D, E at most once"),
        ({"subnet": "B=vector,B=none"}, "'B=none' is not"),
        ({"subnet": "B=vector,"}, "'' is not"),
        ({"subnet": "C=scalar"}, "C=scalar is not in the space"),
        ({"subnet": "B=none"}, "every tensor is none, .* choose method=linear"),
        ({"subnet": "{"}, "it is no JSON"),
        ({"subnet": "{}"}, "maps no layers"),
        ({"subnet": '{"fc": 3}'}, r"maps layers to their five options: it has fc=3 \(input should be a valid"),
        ({"subnet": '{"fc": ["none", 1, 2, 3, 4]}'}, r"it has fc\.1=1 .*string"),
        ({"subnet": '{"fc": "abcde"}'}, "it has fc='abcde'"),
        ({"subnet": '{"fc": ["none", "none", "none", "none"]}'}, "at least 5 items"),
        ({"subnet": '{"fc": ["lora_64", "none", "none", "none", "none"]}'}, "A=lora_64 is not in the space"),
        ({"subnet": '{"fc": ["none", "none", "none", "lora_8", "none"]}'}, "D=lora_8 is not in the space"),
        ({"ranks": [4, 8]}, "ranks=.*: ranks must be strictly descending"),
    ],
)
def test_wrong_options_say_what_is_allowed(options, said):
    with pytest.raises(ValueError, match=f"^method=glora_subnet: option .*{said}"):
        GLoRASubnet.check_options(options)


def test_a_file_that_is_no_subnet_of_the_model_is_refused(tmp_path):
    made = fixed(subnet="B=vector")
    path = tmp_path / "subnet.json"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no file that can be read"):
        GLoRASubnet.check_options({"subnet": str(path)})
    path.write_text(json.dumps({"conv": ["vector", "none", "none", "none", "none"]}))
    options = GLoRASubnet.check_options({"subnet": str(path)})
    with pytest.raises(ValueError, match="the subnet's layers are not the model's"):
        fixed(**options)
    assert made.supernet.space.names
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 3, bias=False))
    with pytest.raises(ValueError, match="subnet=D=vector has no effect on layers without a bias"):
        METHODS["glora_subnet"](model, subnet="D=vector")


@pytest.mark.parametrize("subnet", ["largest", CHOICES, "B=vector", "A=lora_4,D=scalar"])
def test_hf_peft_reads_it(subnet, tmp_path):
    made = fixed(subnet=subnet)
    made.model.float()
    torch.manual_seed(5)
    with torch.no_grad():
        for p in made.trainable().values():
            p.normal_(std=0.1)
    x = inputs().float()
    expected = made.merge().eval()(x)
    loaded = peft.PeftModel.from_pretrained(build().float(), export_peft(made, tmp_path)).eval()
    assert (expected - build().float()(x)).abs().max() > 1e-2
    torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-4)


def test_it_learns():
    made = fixed(subnet="B=lora_8,E=vector")
    recipe = Recipe(lr=5e-3, epochs=30, warmup_epochs=1, batch_size=8)
    trainer = Trainer(made.model, made.trainable(), recipe, normalize, 7, made.before_step)
    x, y = data()
    before = F.cross_entropy(made.model(normalize(x)), y).item()
    for _ in range(30):
        trainer.train_epoch(x, y)
    assert F.cross_entropy(made.model.eval()(normalize(x)), y).item() < 0.5 * before
