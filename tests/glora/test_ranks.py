"""Two processes that share every batch compute what one computes: rows, weights, optimiser, whatever a step trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from glora import Supernet
from glora.distributed import ONE, BrokenOff, Ranks, Several
from glora.methods.lora import LoRA
from glora.recipe import Recipe
from glora.train import Normalizer, Trainer, epoch_order

CASES: dict[str, dict[str, Any]] = {
    "zero": {},
    "first_draw": {"unused_grad": "first_draw"},
    "none": {"unused_grad": "none"},
    "sgd": {"unused_grad": "none", "optimizer": "sgd", "ema": 0.9},
    "draws": {"unused_grad": "none", "draws": 3},
    "sandwich": {"sampling": "sandwich", "draws": 2, "distill": True},
    "fair": {"sampling": "fair", "draws": 2, "unused_grad": "first_draw"},
    "uneven": {"batch_size": 7, "sampling": "sandwich", "distill": True},
    "one each": {"batch_size": 3, "max_steps": 5},
}
EPOCHS, CUT = 2, 6


class Cut(Exception):
    """Ends an epoch as a signal would."""


def images(count: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), generator=generator, dtype=torch.uint8), torch.arange(count) % 3


def vit(drop_path: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=16, patch_size=8, embed_dim=32, depth=2,
                             num_heads=2, drop_path_rate=drop_path).double()  # fmt: skip


def normalize(x: Tensor) -> Tensor:
    return Normalizer((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))(x).double()


def make(ranks: Ranks, drop_path: float = 0.0, **settings: Any) -> Trainer:
    torch.manual_seed(1)
    supernet = Supernet(vit(drop_path), [4, 2])
    for p in supernet.trainable().values():
        nn.init.normal_(p, std=0.1)
    recipe = Recipe(**{"lr": 5e-3, "epochs": EPOCHS, "warmup_epochs": 1, "batch_size": 8, **settings})
    return Trainer(supernet.model, supernet.trainable(), recipe, normalize, 7, supernet=supernet, ranks=ranks)


def trained(trainer: Trainer, state: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a training comes to, and after each step the parameters that have a gradient."""
    graded: list[set[str]] = []
    if state is not None:
        trainer.load_state(state)
    rows = []
    while not trainer.done:
        after = lambda: graded.append({n for n, p in trainer.parameters.items() if p.grad is not None})  # noqa: E731
        rows.append(trainer.train_epoch(*images(), after))
    return {"rows": rows, "graded": graded, "state": trainer.state()}


def cut(trainer: Trainer, step: int, raises: bool = True) -> dict[str, Any]:
    """The state after so many steps, behind which this process, or else another one, ends the epoch."""

    def after_step() -> None:
        if raises and trainer.step == step:
            raise Cut

    with pytest.raises(Cut if raises else BrokenOff):
        while True:
            trainer.train_epoch(*images(), after_step)
    return trainer.state()


def lora_gradients(ranks: Ranks, wrapped: bool) -> dict[str, Tensor]:
    """After one step at a learning rate of nearly nothing, ours, or those of torch's wrapper for the same images."""
    method = LoRA(vit(), dropout=0.0)
    torch.manual_seed(2)
    for p in method.trainable().values():
        nn.init.normal_(p, std=0.1)
    named = method.trainable()
    if not wrapped:
        recipe = Recipe(lr=1e-30, epochs=1, warmup_epochs=0, min_lr=0.0, batch_size=8, max_steps=1)
        Trainer(method.model, named, recipe, normalize, 7, ranks=ranks).train_epoch(*images())
    else:
        x, y = images()
        index = ranks.share(epoch_order(len(y), 7, 0)[:8])
        outer = DistributedDataParallel(method.model.train())
        nn.functional.cross_entropy(outer(normalize(x[index])), y[index]).backward()
    return {n: p.grad.clone() for n, p in named.items() if p.grad is not None}


def work(rank: int, folder: str) -> None:
    """All that two processes have to show, in files: starting them takes longer than the work."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    two = Several()
    found: dict[str, Any] = {name: trained(make(two, **settings)) for name, settings in CASES.items()}
    found["cut here"] = cut(make(two), CUT)
    found["cut by 1"] = cut(make(two), CUT, raises=rank == 1)
    found["after one"] = trained(make(two), torch.load(f"{folder}/one.pt"))
    found["masks"] = trained(make(two, drop_path=0.5))
    found["masks after cut"] = trained(make(two, drop_path=0.5), cut(make(two, drop_path=0.5), CUT))
    found["drawn"] = [(two.seed(7, step), torch.rand(4))[1] for step in range(2)]
    found["ours"], found["wrapper"] = lora_gradients(two, False), lora_gradients(two, True)
    with pytest.raises(ValueError, match="a batch of 1 has not one image for each of 2 ranks"):
        make(two, batch_size=1)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two found."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(cut(make(ONE), CUT), folder / "one.pt")
    torch.multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(Path(folder, f"{rank}.pt")) for rank in (0, 1)]


def close(one: object, other: object) -> None:
    torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_what_one_trains(pair: list[dict[str, Any]], name: str) -> None:
    alone = trained(make(ONE, **CASES[name]))
    for found in (process[name] for process in pair):
        assert found["graded"] == alone["graded"]
        close(found["rows"], alone["rows"])
        close(found["state"], alone["state"])
    # To the bit: nothing lets the weights of the ranks drift apart.
    torch.testing.assert_close(pair[0][name]["state"], pair[1][name]["state"], rtol=0, atol=0)
    assert len(alone["rows"]) in (1, EPOCHS)


def test_some_steps_leave_tensors_without_a_gradient() -> None:
    graded = trained(make(ONE, **CASES["none"]))["graded"]
    assert len({frozenset(names) for names in graded}) > 1


def test_a_stop_on_any_rank_ends_the_epoch_on_all_behind_the_same_step(pair: list[dict[str, Any]]) -> None:
    alone = cut(make(ONE), CUT)
    for state in (process[name] for process in pair for name in ("cut here", "cut by 1")):
        # Several processes set their generators at each step.
        close({**state, "begun": {**state["begun"], "generators": alone["begun"]["generators"]}}, alone)


def test_one_goes_on_with_what_two_began_and_the_other_way_round(pair: list[dict[str, Any]]) -> None:
    whole = trained(make(ONE))
    for found in (trained(make(ONE), pair[0]["cut here"]), pair[0]["after one"]):
        close(found["state"], whole["state"])
        close(found["rows"], whole["rows"][-1:])


def test_masks_differ_between_the_ranks_and_are_drawn_again_after_a_cut(pair: list[dict[str, Any]]) -> None:
    drawn = [mask for process in pair for mask in process["drawn"]]
    assert len({tuple(mask.tolist()) for mask in drawn}) == 4
    for process in pair:
        torch.testing.assert_close(process["masks after cut"]["state"], process["masks"]["state"], rtol=0, atol=0)
        assert process["masks after cut"]["rows"] == process["masks"]["rows"][-1:]


def test_gradients_are_those_of_torchs_own_wrapper(pair: list[dict[str, Any]]) -> None:
    for process in pair:
        assert process["ours"].keys() == process["wrapper"].keys() and len(process["ours"]) > 4
        close(process["ours"], process["wrapper"])
        close(process["ours"], lora_gradients(ONE, False))
