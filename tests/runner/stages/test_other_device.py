"""A run that goes on elsewhere: its resume file read on another device than the one that wrote it."""

import random

import pytest
import timm
import torch

from glora import Supernet
from glora.recipe import Recipe
from glora.train import Normalizer, Trainer
from runner.config.compute import use_tf32
from runner.rundir.checkpoints import load_checkpoint, save_checkpoint

GPU = pytest.mark.gpu


def make(device):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2,
                              num_classes=4)  # fmt: skip
    supernet = Supernet(model, [4])
    model.to(device)
    recipe = Recipe(lr=1e-2, epochs=4, warmup_epochs=0, batch_size=8, optimizer="sgd", ema=0.9)
    normalize = Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return supernet, Trainer(model, supernet.trainable(), recipe, normalize, 3, supernet.sample)


def epochs(trainer, device, count):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    for _ in range(count):
        trainer.train_epoch(images.to(device), (torch.arange(24) % 4).to(device))


@pytest.mark.parametrize(
    ("first", "then"),
    [("cpu", "cpu"), pytest.param("cpu", "cuda", marks=GPU), pytest.param("cuda", "cpu", marks=GPU)],
)
def test_a_run_goes_on_where_another_device_left_it(first, then, tmp_path):
    use_tf32(False)
    whole, trainer = make("cpu")
    epochs(trainer, "cpu", 4)
    _, before = make(first)
    epochs(before, first, 2)
    save_checkpoint(tmp_path / "resume.pt", {"trainer": before.state()})
    resumed, after = make(then)
    assert load_checkpoint(tmp_path / "resume.pt", lambda state: after.load_state(state["trainer"]))
    assert {p.device.type for p in after.parameters.values()} == {then}
    assert {t.device.type for s in after.optimizer.state.values() for t in s.values() if t is not None} == {then}
    epochs(after, then, 2)
    exact = first == then == "cpu"
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0 if exact else 1e-4, msg=name)
    subnet = whole.sample(random.Random(0))
    with trainer.evaluated(), after.evaluated():
        torch.testing.assert_close(resumed.merge(subnet).head.weight.cpu(), whole.merge(subnet).head.weight, atol=1e-4,
                                   rtol=0)  # fmt: skip
