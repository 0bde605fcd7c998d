"""The training recipe: schedule against timm, learning, resuming bit for bit, optimiser semantics."""

import math

import pytest
import timm
import torch
from timm.scheduler import CosineLRScheduler
from torch.utils._python_dispatch import TorchDispatchMode

from glora import Supernet
from glora.optimizers import make_optimizer
from glora.recipe import Recipe
from glora.schedule import cosine_lr
from glora.train import Normalizer, Trainer, epoch_order, step_rng

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "drop_path_rate": 0.1}


def test_schedule_equals_timm_stepped_as_the_published_code_steps_it():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=5e-4)
    scheduler = CosineLRScheduler(optimizer, t_initial=500, warmup_t=10, warmup_lr_init=1e-6, lr_min=1e-5)
    for epoch in range(500):
        assert cosine_lr(epoch, 5e-4, 500, 10) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), epoch
        scheduler.step(epoch)
    values = [cosine_lr(e, 5e-4, 500, 10) for e in (0, 1, 2, 10, 11, 12, 250, 499)]
    printed = [1e-6, 1e-6, 5.09e-5, 4.501e-4, 4.9952e-4, 4.9942e-4, 2.5654e-4, 1.00193e-5]
    assert values == pytest.approx(printed, rel=1e-4)


def lrs(epochs, start, step):
    """What an optimiser's learning rate is in every epoch: `step(scheduler, epoch)` comes after it."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler, out = start(optimizer), []
    for epoch in range(epochs):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        step(scheduler, epoch)
    return out


def adapter_plus_after(optimizer, epoch):
    """The rate behind `LinearWarmupCosineAnnealingLR(10, 100, lr / 100, lr / 1000).step(epoch=epoch)`, in parts."""
    if epoch < 10:
        lr = float(torch.linspace(1e-5, 1e-3, 10, dtype=torch.double)[epoch])
    else:
        free = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(free, T_max=90, eta_min=1e-6)
        for _ in range(epoch - 10):
            free.step()
            cosine.step()
        lr = free.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = lr


def adapter_plus_start(optimizer):
    optimizer.param_groups[0]["lr"] = 1e-5
    return optimizer


def vpt_factor(epoch):
    return epoch / 10 if epoch < 10 else 0.5 * (1 + math.cos(math.pi * (epoch - 10) / 90))


@pytest.mark.parametrize(
    ("name", "ends", "start", "step"),
    [
        ("glora", (1e-6, 1e-5), lambda o: CosineLRScheduler(o, 100, 1e-5, warmup_t=10, warmup_lr_init=1e-6),
         lambda s, epoch: s.step(epoch)),
        ("timm", (1e-7, 1e-8), lambda o: CosineLRScheduler(o, 100, 1e-8, warmup_t=10, warmup_lr_init=1e-7),
         lambda s, epoch: s.step(epoch + 1)),
        ("vpt", (0.0, 0.0), lambda o: torch.optim.lr_scheduler.LambdaLR(o, vpt_factor), lambda s, epoch: s.step()),
        ("adapter_plus", (1e-5, 1e-6), adapter_plus_start, adapter_plus_after),
    ],
)  # fmt: skip
def test_every_schedule_equals_its_authors_scheduler_stepped_as_theirs(name, ends, start, step):
    found = [cosine_lr(epoch, 1e-3, 100, 10, *ends, name) for epoch in range(100)]
    assert found == pytest.approx(lrs(100, start, step), rel=1e-9, abs=1e-15)
    warmup_less = [cosine_lr(epoch, 1e-3, 5, 0, *ends, name) for epoch in range(5)]
    assert warmup_less[0] == 1e-3 and warmup_less == sorted(warmup_less, reverse=True)


def test_adapter_plus_rates_are_those_of_its_run():
    """Epochs 0 to 12 and the last, as its scheduler ran under Lightning 2.3.3 with `step(epoch=current_epoch)`."""
    found = [cosine_lr(epoch, 1e-3, 100, 10, 1e-5, 1e-6, "adapter_plus") for epoch in (*range(13), 98, 99)]
    warmup = [1e-5, 1e-5, 1.2e-4, 2.3e-4, 3.4e-4, 4.5e-4, 5.6e-4, 6.7e-4, 7.8e-4, 8.9e-4, 1e-3, 1e-3]
    assert found == pytest.approx([*warmup, 9.9970e-4, 3.736313263547492e-06, 2.2167568952178134e-06], rel=1e-5)


def make(unused_grad="zero", epochs=4):
    torch.manual_seed(0)
    supernet = Supernet(timm.create_model("vit_tiny_patch16_224", num_classes=4, **SMALL), [4, 2])
    normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    recipe = Recipe(lr=5e-3, epochs=epochs, warmup_epochs=1, batch_size=16, unused_grad=unused_grad)
    return supernet, Trainer(supernet.model, supernet.trainable(), recipe, normalize, 7, supernet.sample)


def images(count=48):
    g = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 4
    x = torch.randint(0, 60, (count, 3, 32, 32), generator=g)
    x[torch.arange(count), :, :8, :] += (labels * 60).view(-1, 1, 1, 1)
    return x.to(torch.uint8), labels


def test_learns_and_leaves_the_backbone_alone():
    supernet, trainer = make(epochs=40)
    trainer.before_step = lambda rng: supernet.set(supernet.space.largest)
    frozen = {n: p.clone() for n, p in supernet.model.named_parameters() if not p.requires_grad}
    rows = [trainer.train_epoch(*images()) for _ in range(40)]
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert all(torch.equal(p, frozen[n]) for n, p in supernet.model.named_parameters() if n in frozen)


def test_a_resumed_run_is_bit_identical():
    supernet, trainer = make()
    for _ in range(4):
        trainer.train_epoch(*images())
    _, first = make()
    first.train_epoch(*images()), first.train_epoch(*images())
    resumed, second = make()
    second.load_state(first.state())
    second.train_epoch(*images()), second.train_epoch(*images())
    assert all(torch.equal(v, resumed.state_dict()[n]) for n, v in supernet.state_dict().items())


def test_zero_semantics_move_unused_tensors_and_none_semantics_do_not():
    for semantics, moves in (("zero", True), ("none", False)):
        supernet, trainer = make(semantics)
        trainer.before_step = lambda rng, s=supernet: s.set(s.space.largest)
        trainer.train_epoch(*images()), trainer.train_epoch(*images())
        trainer.before_step = lambda rng, s=supernet: s.set(s.space.smallest)
        before = supernet.state_dict()
        trainer.train_epoch(*images())
        changed = {n for n, p in supernet.state_dict().items() if not torch.equal(p, before[n])}
        assert any(".Ad" in n for n in changed) is moves and "head.weight" in changed


USED = {"Ad": "A", "Au": "A", "Bd": "B", "Bu": "B", "Cd": "C", "Cu": "C", "D": "D", "E": "E"}


def drawn_tensors(supernet):
    """Names of the support tensors that the subnet now set uses: a factor Au, Bu or Cu under a LoRA option alone."""
    out = set()
    for spec, config in zip(supernet.space.layers, supernet.current.layers, strict=True):
        for tensor, letter in USED.items():
            option = str(getattr(config, letter))
            if option != "none" and (not tensor.endswith("u") or option.startswith("lora")):
                out.add(f"{spec.name}.{tensor}")
    return out


def test_first_draw_is_the_loop_of_torch_1_10_and_a_resumed_run_too():
    """There `zero_grad` fills with zeros, so a gradient is missing until a tensor's first draw and never after."""
    x, y = images(16)  # one step an epoch
    supernet, _ = make("first_draw")  # gradients are None, as in a new model
    start = supernet.state_dict()
    parameters, first = supernet.trainable(), {}
    optimizer = torch.optim.AdamW(parameters.values(), lr=5e-3, weight_decay=1e-4)
    for epoch in range(4):
        torch.manual_seed(7 * 1_000_003 + epoch)
        optimizer.param_groups[0]["lr"] = cosine_lr(epoch, 5e-3, 4, 1)
        supernet.model.train()
        supernet.sample(step_rng(7, epoch))
        for name in drawn_tensors(supernet):
            first.setdefault(name, epoch)
        for p in parameters.values():
            if p.grad is not None:
                p.grad.zero_()
        index = epoch_order(16, 7, epoch)
        normal = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(x[index])
        torch.nn.functional.cross_entropy(supernet.model(normal), y[index]).backward()
        optimizer.step()
    late = {n for n, step in first.items() if step > 0}
    never = {n for n in parameters if "head" not in n} - first.keys()
    assert late and never  # else this shows nothing
    counts = {n: int(optimizer.state[parameters[n]]["step"]) if parameters[n] in optimizer.state else 0 for n in first}
    assert counts == {n: 4 - step for n, step in first.items()}
    expected = supernet.state_dict()
    assert all(torch.equal(expected[n], start[n]) and parameters[n] not in optimizer.state for n in never)

    whole, trainer = make("first_draw")
    for _ in range(4):
        trainer.train_epoch(x, y)
    _, before = make("first_draw")
    before.train_epoch(x, y), before.train_epoch(x, y)
    resumed, after = make("first_draw")
    after.load_state(before.state())
    after.train_epoch(x, y), after.train_epoch(x, y)
    for made in (whole, resumed):
        assert all(torch.equal(v, expected[n]) for n, v in made.state_dict().items())

    other, trainer = make("zero")
    for _ in range(4):
        trainer.train_epoch(x, y)
    assert not all(torch.equal(v, expected[n]) for n, v in other.state_dict().items())


def test_fewer_images_than_a_batch_are_refused():
    _, trainer = make()
    with pytest.raises(ValueError, match="fewer than one batch"):
        trainer.train_epoch(*images(8))


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_weight_decay_is_skipped_where_it_should_be(optimizer, kind):
    named = {n: torch.nn.Parameter(torch.ones(*s)) for n, s in (("w", (2, 2)), ("free", (2, 2)), ("bias", (2,)))}
    made = make_optimizer(named, Recipe(lr=0.1, weight_decay=0.5, optimizer=optimizer, decay_1d=False), {"free"})
    assert type(made) is kind
    for p in named.values():
        p.grad = torch.zeros_like(p)
    made.step()
    assert torch.equal(named["free"], torch.ones(2, 2)) and torch.equal(named["bias"], torch.ones(2))
    torch.testing.assert_close(named["w"].detach(), torch.full((2, 2), 0.95))  # 1 - lr * decay


def test_the_default_trainer_is_a_plain_adamw_loop_bit_for_bit():
    def model():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 4))

    (x, y), one, two = images(), model(), model()
    normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    trainer = Trainer(one, dict(one.named_parameters()), Recipe(epochs=4, warmup_epochs=1, batch_size=16), normalize, 7)
    optimizer = torch.optim.AdamW(two.parameters(), lr=5e-4, weight_decay=1e-4)
    for epoch in range(4):
        trainer.train_epoch(x, y)
        optimizer.param_groups[0]["lr"] = cosine_lr(epoch, 5e-4, 4, 1)
        for index in epoch_order(48, 7, epoch).split(16):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(two(normalize(x[index])), y[index]).backward()
            optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one[1].weight, model()[1].weight)


def test_a_loss_that_is_not_finite_ends_the_epoch_and_names_its_step():
    _, trainer = make()
    trainer.train_epoch(*images())
    trainer.before_step = lambda rng: trainer.step == 4 and trainer.parameters["head.bias"].data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="nan at step 4: lower optimizer.lr"):
        trainer.train_epoch(*images())


def test_the_host_reads_from_the_device_once_an_epoch_not_once_a_step():
    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func._schema.name == "aten::_local_scalar_dense"
            return func(*args, **(kwargs or {}))

    found = []
    for steps in (2, 5):
        supernet, _ = make()
        supernet.use_static_graph()
        recipe = Recipe(batch_size=16, optimizer="sgd")  # on a CPU AdamW reads its own step count, which lives there
        normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        trainer = Trainer(supernet.model, supernet.trainable(), recipe, normalize, 7, supernet.sample)
        with Reads() as reads:
            trainer.train_epoch(*images(16 * steps))
        found.append(reads.count)
    assert found[0] == found[1]


def test_a_bfloat16_run_follows_the_float32_one():
    """Losses of every epoch within 2 %; parameters and their gradients stay float32."""
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        supernet, _ = make()
        recipe = Recipe(lr=5e-3, epochs=10, warmup_epochs=1, batch_size=16)
        normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        trainer = Trainer(
            supernet.model, supernet.trainable(), recipe, normalize, 7, supernet.sample, precision=precision
        )
        losses.append([trainer.train_epoch(*images())["loss"] for _ in range(10)])
        assert {p.grad.dtype for p in trainer.parameters.values()} == {torch.float32}
    assert losses[1] != losses[0] and losses[1] == pytest.approx(losses[0], rel=0.02)


def test_a_model_with_batch_norm_computes_the_same_after_training_as_when_its_tensors_are_loaded():
    def fresh():
        torch.manual_seed(0)
        return Supernet(timm.create_model("test_resnet", num_classes=4), [2], convs=True)

    supernet, recipe = fresh(), Recipe(lr=5e-3, epochs=2, warmup_epochs=1, batch_size=16)
    normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    trainer = Trainer(supernet.model, supernet.trainable(), recipe, normalize, 7, supernet.sample)
    for _ in range(2):
        trainer.train_epoch(*images())
    other = fresh()
    other.load_state_dict(supernet.state_dict())
    for either in (supernet, other):
        either.set(either.space.largest)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(supernet.model.eval()(x), other.model.eval()(x))
