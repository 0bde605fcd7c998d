"""A training that stops inside an epoch and goes on from its state computes what the unbroken one computes."""

from __future__ import annotations

import pytest
import timm
import torch

from glora import Supernet
from glora.recipe import Recipe
from glora.train import Normalizer, Trainer


class Cut(Exception):
    """Ends an epoch as a signal would."""


def make(device="cpu", **settings):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=4, img_size=32, patch_size=8, embed_dim=32, depth=2,
                              num_heads=2, drop_path_rate=0.3)  # fmt: skip
    supernet = Supernet(model, [4, 2])
    model.to(device)
    recipe = Recipe(lr=5e-3, epochs=2, warmup_epochs=1, batch_size=8, **settings)
    normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return supernet, Trainer(supernet.model, supernet.trainable(), recipe, normalize, 7, supernet=supernet)


def images(count=32, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return pixels.to(device), (torch.arange(count) % 4).to(device)


def cut_at(trainer, step, device="cpu"):
    """Train until `step` steps are done; the state there."""

    def after_step():
        if trainer.step == step:
            raise Cut

    with pytest.raises(Cut):
        while True:
            trainer.train_epoch(*images(device=device), after_step)
    return trainer.state()


@pytest.mark.parametrize("step", [1, 2, 4, 7])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"unused_grad": "first_draw"},
        {"unused_grad": "none", "optimizer": "sgd", "ema": 0.9},
        {"sampling": "sandwich", "draws": 2, "distill": True},
    ],
    ids=["zero", "first_draw", "none", "sandwich"],
)
def test_a_run_cut_after_any_step_goes_on_to_the_same_bits(step, settings):
    whole, trainer = make(**settings)
    rows = [trainer.train_epoch(*images()) for _ in range(2)]
    state = cut_at(make(**settings)[1], step)
    torch.rand(99)  # another process's generator stands elsewhere
    resumed, after = make(**settings)
    after.load_state(state)
    assert (after.epoch, after.steps_begun) == (divmod(step, 4) if step != 4 else (0, 4))
    found = [after.train_epoch(*images()) for _ in range(2 - after.epoch)]
    assert found == rows[-len(found) :]
    assert all(torch.equal(v, resumed.state_dict()[n]) for n, v in whole.state_dict().items())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_run_cut_twice_in_an_epoch_draws_what_the_unbroken_one_draws(device):
    whole, trainer = make(device)
    row = trainer.train_epoch(*images(device=device))
    state = cut_at(make(device)[1], 1, device)
    for step in (2, 3):
        between = make(device)[1]
        between.load_state(state)
        torch.rand(99, device=device)
        assert between.state()["begun"]["generators"].keys() == {"cpu", device}  # none is drawn from yet
        again = make(device)[1]
        again.load_state(between.state())
        state = cut_at(again, step, device)
    resumed, after = make(device)
    after.load_state(state)
    assert after.train_epoch(*images(device=device)) == row
    assert all(torch.equal(v, resumed.state_dict()[n]) for n, v in whole.state_dict().items())


def test_a_run_cut_after_its_very_last_step_still_has_an_epoch_to_end():
    rows = [make(max_steps=2)[1].train_epoch(*images())]
    _, after = make(max_steps=2)
    after.load_state(cut_at(make(max_steps=2)[1], 2))
    assert not after.done
    assert [after.train_epoch(*images())] == rows
    assert after.done


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("steps", 3),
        ("steps", 0),
        ("losses", torch.tensor([1.0, float("nan")])),
        ("losses", torch.tensor([1, 2])),
        ("hits", torch.tensor([3])),
        ("hits", torch.tensor([3, 9])),
        ("hits", torch.tensor([3, -1])),
        ("generators", {"cpu": torch.zeros(3, dtype=torch.uint8)}),
        ("generators", {}),
    ],
)
def test_a_state_that_no_epoch_can_have_is_refused_and_changes_nothing(key, value):
    state = cut_at(make()[1], 2)
    state["begun"][key] = value
    supernet, trainer = make()
    before = supernet.state_dict()
    with pytest.raises((ValueError, KeyError)):
        trainer.load_state(state)
    assert (trainer.step, trainer.steps_begun) == (0, 0)
    assert all(torch.equal(v, before[n]) for n, v in supernet.state_dict().items())


def test_a_loss_that_is_not_finite_is_named_inside_an_epoch_too():
    supernet, trainer = make(sampling="sandwich")
    cut_at(trainer, 2)
    with torch.no_grad():
        next(iter(supernet.trainable().values())).fill_(float("inf"))
    with pytest.raises(FloatingPointError, match="weights are not finite after step 2: lower"):
        trainer.check_finite()
    with pytest.raises(FloatingPointError, match="loss is nan at step 2: lower"):
        trainer.train_epoch(*images())
