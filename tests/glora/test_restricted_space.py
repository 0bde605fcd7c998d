"""A space cut to some of equation 10's tensors: counts, draws, searches and training stay inside it."""

import random
from collections import Counter

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


def test_draws_are_uniform_over_the_options_that_are_left_and_survive_json():
    space, rng = SearchSpace((LayerSpec("one", 6, 8, bias=False),), (8, 4), "AC"), random.Random(0)
    drawn = [space.sample(rng) for _ in range(4000)]
    seen = Counter(subnet.layers[0] for subnet in drawn)
    options = {"A": ("lora_8", "lora_4", "vector", "scalar", "none"), "C": ("lora_8", "lora_4", "vector", "none")}
    assert set(seen) == {LayerConfig.parse([a, "none", c, "none", "none"]) for a in options["A"] for c in options["C"]}
    # Pearson's statistic over 20 equal cells: 19 degrees of freedom, 43.8 is exceeded once in a thousand.
    assert sum((n - 200) ** 2 / 200 for n in seen.values()) < 43.8
    for subnet in seen:
        whole = Subnet((subnet,))
        assert space.from_json(space.to_json(whole)) == whole == space.decode(space.encode(whole))


def test_the_parameters_of_llama_7b():
    """32 blocks of 4096 x 4096 (q, k, v, o) and 4096 x 11008 (gate, up, down): A and B cost 2,498,560 r each."""
    widths = [(4096, 4096)] * 4 + [(4096, 11008)] * 2 + [(11008, 4096)]
    space = SearchSpace(
        tuple(LayerSpec(f"{b}.{i}", *w, False) for b in range(32) for i, w in enumerate(widths)), (8,), "AB"
    )
    assert len(space.layers) == 224 and space.params_range == (0, 2 * 8 * 2_498_560)
    assert "16^224" in space.describe()


@pytest.mark.parametrize("seed", range(3))
def test_a_static_graph_of_a_cut_space_computes_and_trains_the_same(seed):
    branches, static = Supernet(bias_free(), [4, 2], tensors="AB"), Supernet(bias_free(), [4, 2], tensors="AB")
    for one, other in zip(branches.trainable().values(), static.trainable().values(), strict=True):
        nn.init.normal_(one)
        other.data.copy_(one)
    static.use_static_graph()
    x = torch.randn(7, 6)
    gradients = []
    for supernet in (branches, static):
        supernet.sample(random.Random(seed))
        y = supernet.model(x)
        tensors = list(supernet.trainable().values())
        gradients.append([y, *torch.autograd.grad(y.sum(), tensors, allow_unused=True, materialize_grads=True)])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("tensors", "message"), [("BA", "in that order"), ("D", "leaves nothing to choose")])
def test_a_refused_space_leaves_the_model_as_it_was(tensors, message):
    model = bias_free()
    with pytest.raises(ValueError, match=message):
        Supernet(model, [2], tensors=tensors)
    assert len(Supernet(model, [2], tensors="AB").layers) == 2
