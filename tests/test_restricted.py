"""A space cut to some of equation 10's tensors: counts, draws, searches and training stay inside it."""

import random

import pytest
import torch
from torch import nn

from glora import EvolutionSearch, Supernet
from glora.options import NONE, VECTOR, LayerConfig
from glora.space import LayerSpec, SearchSpace, Subnet


def bias_free():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 5, bias=False))


@pytest.mark.parametrize(("tensors", "count"), [("AB", 25), ("A", 5), ("CE", 12), ("ABCDE", 900), ("D", 3)])
def test_options_per_layer(tensors, count):
    space = SearchSpace((LayerSpec("one", 6, 8),), (8, 4), tensors)
    assert space.options_per_layer(0) == count == len(set(space.configs(0))) and f"{count}^1" in space.describe()
    largest = space.largest.layers[0]
    assert {t for t, option in zip("ABCDE", largest, strict=True) if option != NONE} == set(tensors)


@pytest.mark.parametrize("tensors", ["", "BA", "AX", "AA"])
def test_letters_that_are_no_tensors_are_refused(tensors):
    with pytest.raises(ValueError, match="must be letters of ABCDE in that order"):
        SearchSpace((LayerSpec("one", 6, 8),), (8,), tensors)


def test_a_search_stays_inside_and_every_winner_merges_into_the_same_architecture():
    model = bias_free()
    supernet = Supernet(model, [4, 2], tensors="AB")
    space = supernet.space
    rng = random.Random(0)
    search = EvolutionSearch(space, lambda _: rng.random(), generations=4, population=20, parents=4, mutants=10,
                             crossovers=5, min_params=40, max_params=120)  # fmt: skip
    while not search.done:
        search.step()
    assert len(search.candidates) == 80
    for candidate in search.candidates:
        space.check(candidate.subnet)
        assert all((layer.C, layer.D, layer.E) == (NONE,) * 3 for layer in candidate.subnet.layers)
    plain = supernet.merge(search.best().subnet)
    bias_free().load_state_dict(plain.state_dict())
    outside = Subnet((LayerConfig(E=VECTOR),) * 2)
    with pytest.raises(ValueError, match="E=vector is not in the space"):
        supernet.set(outside)


def test_only_tensors_of_the_space_train_and_are_saved():
    supernet = Supernet(bias_free(), [4, 2], tensors="AB")
    assert {name.split(".")[-1] for name in supernet.trainable()} == {"Ad", "Au", "Bd", "Bu"}
    assert supernet.stored_params() == supernet.space.params_range[1] == 2 * 4 * (6 + 8) + 2 * 4 * (8 + 5)
    trains = {n for n, p in supernet.model.named_parameters() if p.requires_grad}
    assert trains == set(supernet.trainable()) == set(supernet.state_dict())


def test_the_whole_space_draws_what_it_drew_before_it_could_be_cut():
    """Seeded subnets are in users' records: the first draw for ranks 8 and 4, written down."""
    space = SearchSpace(tuple(LayerSpec(f"l{i}", 16, 16) for i in range(3)), (8, 4))
    drawn = [[str(o) for o in c] for c in space.sample(random.Random(0)).layers]
    assert drawn == [
        ["scalar", "scalar", "lora_8", "scalar", "none"],
        ["scalar", "scalar", "vector", "scalar", "scalar"],
        ["none", "lora_4", "lora_4", "scalar", "vector"],
    ]
