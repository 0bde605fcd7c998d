"""What a step of a supernet trains: each sampler's draws, the sum of their gradients, resuming, the weight average."""

import random
from collections import Counter
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from glora import SearchSpace, Supernet
from glora.methods.glora import GLoRA
from glora.methods.noah import NOAH
from glora.recipe import Recipe
from glora.sampling import SAMPLERS, Sampler, step_rng
from glora.space import LayerSpec
from glora.train import Trainer, epoch_order

SPACE = SearchSpace((LayerSpec("a", 4, 6), LayerSpec("b", 6, 4, bias=False), LayerSpec("c", 4, 4)), (8, 4))
RECIPE = Recipe(lr=5e-3, epochs=4, warmup_epochs=1, batch_size=8)
MODELS = {
    "vit": ("vit_tiny_patch16_224", {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}),
    "swin": ("swin_tiny_patch4_window7_224", {"img_size": 56, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)}),
    "conv": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}),
}
SIZE = {"vit": 16, "swin": 56, "conv": 32}


def build(kind="vit", drop_path=0.0):
    torch.manual_seed(0)
    name, kwargs = MODELS[kind]
    return timm.create_model(name, num_classes=3, drop_path_rate=drop_path, **kwargs).double()


def method(kind="glora", drop_path=0.1):
    torch.manual_seed(1)
    model = build(drop_path=drop_path)
    return GLoRA(model, ranks=(4, 2)) if kind == "glora" else NOAH(model)


def data(kind="vit", count=24):
    g = torch.Generator().manual_seed(2)
    images = torch.randint(0, 256, (count, 3, SIZE[kind], SIZE[kind]), dtype=torch.uint8, generator=g)
    return images, torch.arange(count) % 3


def normalize(images):
    return images.double() / 255 - 0.5


def trainer_of(made, recipe=RECIPE, **kwargs):
    return Trainer(made.model, made.trainable(), recipe, normalize, 7, supernet=made, **kwargs)


def state_after(kind, recipe, epochs=4, stop=None):
    """The tensors after `epochs`, and the trainer; with `stop`, the run was killed and resumed there."""
    made = method(kind)
    trainer = trainer_of(made, recipe)
    if stop is not None:
        before = trainer_of(method(kind), recipe)
        for _ in range(stop):
            before.train_epoch(*data())
        trainer.load_state(before.state())
    while trainer.epoch < epochs:
        trainer.train_epoch(*data())
    with trainer.evaluated():
        return made.state_dict()


def same(one, other):
    return all(torch.equal(t, other[n]) for n, t in one.items())


@pytest.mark.parametrize("kind", ["glora", "noah"])
@pytest.mark.parametrize("unused_grad", ["zero", "first_draw", "none"])
def test_one_uniform_draw_trains_bit_for_bit_as_the_method_by_itself(kind, unused_grad):
    recipe = replace(RECIPE, unused_grad=unused_grad)
    own = method(kind)
    trainer = Trainer(own.model, own.trainable(), recipe, normalize, 7, own.before_step)
    rows = [trainer.train_epoch(*data()) for _ in range(4)]
    made = method(kind)
    sampled = trainer_of(made, recipe)
    assert [sampled.train_epoch(*data()) for _ in range(4)] == rows
    assert same(own.state_dict(), made.state_dict())


def test_uniform_draws_of_a_step_are_successive_draws_of_its_generator():
    rng = step_rng(3, 5)
    expected = [SPACE.sample(rng) for _ in range(3)]
    assert SAMPLERS["uniform"](SPACE, 3).subnets(3, 5) == expected
    assert SAMPLERS["uniform"](SPACE).subnets(3, 5) == expected[:1]
    assert SAMPLERS["sandwich"](SPACE, 3).subnets(3, 5) == [SPACE.largest, *expected]
    counts = Counter()
    for step in range(3000):
        (subnet,) = SAMPLERS["uniform"](SPACE).subnets(0, step)
        counts.update(enumerate(option for layer in subnet.layers for option in layer))
    for gene, options in enumerate(o for spec in SPACE.layers for o in SPACE.options(spec)):
        for option in options:
            assert counts[gene, option] / 3000 == pytest.approx(1 / len(options), abs=0.05)


@pytest.mark.parametrize("draws", [1, 5])
def test_fair_draws_every_option_of_every_gene_equally_often_in_each_round(draws):
    fair = SAMPLERS["fair"](SPACE, draws)
    assert fair.round == 60
    sequence = [subnet for step in range(120 // draws) for subnet in fair.subnets(9, step)]
    assert sequence == [subnet for step in range(120) for subnet in SAMPLERS["fair"](SPACE).subnets(9, step)]
    for i, spec in enumerate(SPACE.layers):
        for tensor, options in zip("ABCDE", SPACE.options(spec), strict=True):
            drawn = [getattr(subnet.layers[i], tensor) for subnet in sequence]
            for start in range(0, 120, len(options)):
                assert sorted(drawn[start : start + len(options)]) == sorted(options)
            for start in (0, 60):
                assert set(Counter(drawn[start : start + 60]).values()) == {60 // len(options)}
    assert len(set(sequence)) == 120  # the genes are shuffled apart from each other
    assert fair.subnets(9, 1) != fair.subnets(10, 1) != fair.subnets(10, 2)
    orders = {tuple(str(s.layers[0].A) for s in sequence[start : start + 5]) for start in range(0, 120, 5)}
    assert len(orders) > 10


def test_a_sampler_is_a_function_of_seed_and_step_alone():
    for name, kind in SAMPLERS.items():
        one, other = kind(SPACE, 2), kind(SPACE, 2)
        forth = [one.subnets(4, step) for step in range(20)]
        random.seed(0)
        assert [other.subnets(4, step) for step in reversed(range(20))] == forth[::-1], name
        for subnets in forth:
            for subnet in subnets:
                SPACE.check(subnet)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("distill", [False, True])
def test_the_step_of_a_sandwich_is_that_of_the_sum_of_its_subnets_gradients(kind, distill):
    def fresh():
        torch.manual_seed(0)
        supernet = Supernet(build(kind), [4, 2], convs=kind == "conv")
        torch.manual_seed(3)
        for p in supernet.trainable().values():
            nn.init.normal_(p, std=0.1)
        return supernet

    supernet, alone = fresh(), fresh()
    recipe = Recipe(lr=0.1, epochs=1, warmup_epochs=0, batch_size=8, optimizer="sgd", weight_decay=0.0,
                    sampling="sandwich", distill=distill, draws=2)  # fmt: skip
    x, y = data(kind, 8)
    row = trainer_of(supernet, recipe).train_epoch(x, y)

    order = epoch_order(8, 7, 0)
    inputs, labels = normalize(x[order]), y[order]
    rng = step_rng(7, 0)
    start, total, losses = alone.state_dict(), Counter(), []
    alone.model.train()
    teacher = None
    for subnet in (alone.space.largest, alone.space.sample(rng), alone.space.sample(rng)):
        alone.set(subnet)
        probabilities = torch.softmax(alone.model(inputs), 1)
        if teacher is None or not distill:
            loss = -probabilities[torch.arange(8), labels].log().mean()
            teacher = probabilities.detach()
        else:
            loss = (teacher * (teacher.log() - probabilities.log())).sum(1).mean()
        named = alone.trainable()
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        for name, gradient in zip(named, gradients, strict=True):
            total[name] = total[name] + (0 if gradient is None else gradient)
        losses.append(loss.item())
    assert row["loss"] == pytest.approx(sum(losses) / 3, rel=1e-12)
    for name, value in supernet.state_dict().items():
        torch.testing.assert_close(value, start[name] - 0.1 * total[name], rtol=0, atol=1e-12, msg=name)
    assert sum(t.abs().max() > 1e-6 for t in total.values() if not isinstance(t, int)) > 10


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("glora", {"sampling": "sandwich", "distill": True, "ema": 0.9}),
        ("glora", {"sampling": "sandwich", "unused_grad": "first_draw", "draws": 2}),
        ("glora", {"sampling": "fair", "draws": 3, "unused_grad": "none"}),
        ("glora", {"draws": 2, "unused_grad": "first_draw"}),
        ("noah", {"sampling": "sandwich", "distill": True}),
        ("noah", {"draws": 2, "ema": 0.5}),
    ],
)
def test_a_resumed_run_is_bit_identical(kind, settings):
    recipe = replace(RECIPE, **settings)
    whole = state_after(kind, recipe)
    for stop in (1, 3):
        assert same(whole, state_after(kind, recipe, stop=stop))
    assert not same(whole, state_after(kind, RECIPE))


def test_tensors_outside_all_draws_of_a_step_are_those_that_are_unused():
    """With "none" a tensor moves where any draw of the step used it; its momentum and step count tell."""
    made = method("glora")
    trainer = trainer_of(made, replace(RECIPE, draws=2, unused_grad="none"))
    trainer.train_epoch(*data())
    counts = Counter()
    for step in range(3):
        used = set()
        for subnet in SAMPLERS["uniform"](made.space, 2).subnets(7, step):
            for name, config in zip(made.space.names, subnet.layers, strict=True):
                words = dict(zip("ABCDE", map(str, config), strict=True))
                used |= {f"{name}.{t}" for t in ("Ad", "Bd", "Cd", "D", "E") if words[t[0]] != "none"}
                used |= {f"{name}.{t}u" for t in "ABC" if words[t].startswith("lora")}
        counts.update(used)
    assert set(counts.values()) == {1, 2, 3}
    for name, parameter in made.supernet.trainable().items():
        steps = int(trainer.optimizer.state[parameter]["step"]) if parameter in trainer.optimizer.state else 0
        assert steps == (3 if name.startswith("head") else counts[name]), name


def test_the_average_is_evaluated_and_the_weights_train_on():
    recipe = replace(RECIPE, ema=0.8)
    x, y = data(count=8)  # one step an epoch
    made, plain = method("glora"), method("glora")
    trainer, other = trainer_of(made, recipe), trainer_of(plain)
    expected = made.state_dict()
    for _ in range(4):
        trainer.train_epoch(x, y), other.train_epoch(x, y)
        expected = {n: 0.8 * t + 0.2 * plain.state_dict()[n] for n, t in expected.items()}
        with trainer.evaluated():
            for name, value in made.state_dict().items():
                torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-14)
        assert same(made.state_dict(), plain.state_dict())
    with other.evaluated():
        assert same(plain.state_dict(), made.state_dict())
    assert "average" not in other.state()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sampling": "largest"}, "sampling is 'largest'; allowed: uniform, sandwich, fair"),
        ({"distill": True}, "distill needs the largest subnet in every step: sampling=sandwich, not uniform"),
        ({"draws": 0}, "draws must be positive, got 0"),
        ({"ema": 1.0}, "ema must lie between 0 and 1, got 1.0"),
    ],
)
def test_wrong_settings_say_what_is_allowed(settings, said):
    with pytest.raises(ValueError, match=said):
        Recipe(**settings)


def test_fair_is_refused_where_genes_depend_on_each_other():
    with pytest.raises(ValueError, match="sampling=fair needs genes .* NOAHSpace does not have; choose uniform, sandw"):
        trainer_of(method("noah"), replace(RECIPE, sampling="fair"))


def test_a_sampler_of_ones_own_is_found_by_its_name():
    class Largest(Sampler):
        name = "largest_alone"

        def subnets(self, seed, step):
            return [self.space.largest]

    try:
        made = method("glora")
        trainer_of(made, replace(RECIPE, sampling="largest_alone")).train_epoch(*data())
        assert made.supernet.current == made.space.largest
    finally:
        del SAMPLERS["largest_alone"]
