"""The forms of a winner: the closed-form mean against all configurations, uniform and greedy soups, and refusals."""

import itertools
import random

import pytest
import torch
from torch import nn

from glora import EvolutionSearch, LayerSpec, Measured, SearchSpace, Subnet, Supernet
from glora.methods.noah_space import NOAHSpace
from glora.search import Candidate
from glora.winner import average, greedy_soup, mean, soup


@pytest.mark.parametrize(("ranks", "tensors"), [((2,), "ABCDE"), ((3, 2, 1), "ABCDE"), ((2, 1), "AC")])
@pytest.mark.parametrize("bias", [True, False])
def test_the_mean_is_the_average_over_all_configurations_of_a_layer(ranks, tensors, bias):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4, bias=bias), nn.Linear(4, 2)).double()
    supernet = Supernet(model, ranks, head=model[1], tensors=tensors)
    for parameter in supernet.trainable().values():
        nn.init.normal_(parameter)
    (layer,), (row,) = supernet.layers.values(), mean(supernet.space).layers
    configs = supernet.space.configs(0)
    weight = torch.stack([layer.merged_weight(c) for c in configs]).mean(0)
    biases = [layer.merged_bias(c) for c in configs]
    expected = torch.stack([weight.new_zeros(4) if b is None else b for b in biases]).mean(0)
    torch.testing.assert_close(layer.merged_weight(row), weight, rtol=0, atol=1e-12)
    torch.testing.assert_close(layer.merged_bias(row), expected, rtol=0, atol=1e-12)


def test_the_mean_of_a_linear_model_is_its_average_output_over_the_whole_space():
    """Two layers in parallel, whose sum is affine in both: all joint configurations, counted one by one."""

    class Parallel(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = nn.Linear(3, 2), nn.Linear(3, 2, bias=False), nn.Identity()

        def forward(self, x):
            return self.head(self.one(x) + self.two(x))

    torch.manual_seed(0)
    model = Parallel().double()
    supernet = Supernet(model, (1,), head=model.head, tensors="AE")
    for parameter in supernet.trainable().values():
        nn.init.normal_(parameter)
    x, outputs = torch.randn(4, 3, dtype=torch.double), []
    for configs in itertools.product(supernet.space.configs(0), supernet.space.configs(1)):
        supernet.set(Subnet(configs))
        outputs.append(model(x))
    assert len(outputs) == 12 * 12
    supernet.set(mean(supernet.space))
    torch.testing.assert_close(model(x), torch.stack(outputs).mean(0), rtol=0, atol=1e-12)


SPACE = SearchSpace(tuple(LayerSpec(f"l{i}", 6, 6) for i in range(4)), (4, 2))


def searched(fitness, **settings):
    search = EvolutionSearch(SPACE, fitness, population=8, generations=3, mutants=4, crossovers=4, **settings)
    while not search.done:
        search.step()
    return search


def by_size(subnet):
    """Better near 300 parameters in accuracy, near 500 in loss."""
    size = SPACE.params(subnet)
    return Measured(1 / (1 + abs(size - 300)), abs(size - 500) / 100)


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_a_uniform_soup_averages_the_best_by_the_objective(objective):
    search = searched(by_size, objective=objective)
    key = (lambda c: -c.accuracy) if objective == "accuracy" else (lambda c: c.loss)
    best = sorted(search.candidates, key=lambda c: (key(c), c.params, c.index))
    for k in (1, 3, 1000):
        found = soup(SPACE, search.ranked(), k)
        rows = [average(SPACE, [c.subnet]).layers for c in best[:k]]
        for i, row in enumerate(found.layers):
            assert row == pytest.approx([sum(gates) / len(rows) for gates in zip(*(r[i] for r in rows), strict=True)])
    with pytest.raises(ValueError, match="at least one member"):
        soup(SPACE, search.ranked(), 0)


def greedy_by_hand(ranked, fitness, better):
    kept = [ranked[0]]
    for candidate in ranked[1:]:
        now = average(SPACE, [c.subnet for c in kept])
        if better(fitness(average(SPACE, [*(c.subnet for c in kept), candidate.subnet])), fitness(now)):
            kept.append(candidate)
    return kept


@pytest.mark.parametrize("objective", ["accuracy", "loss"])
def test_a_greedy_soup_keeps_the_members_that_do_no_harm(objective):
    target = [random.Random(i).random() for i in range(4 * (3 * 4 + 9))]

    def fitness(member):
        gates = [g for row in average(SPACE, [member]).layers for g in row]
        distance = sum((g - t) ** 2 for g, t in zip(gates, target, strict=True))
        return Measured(round(1 / (1 + distance), 3), distance)

    search, calls = searched(fitness, objective=objective), []
    ranked = search.ranked()

    def counted(member):
        calls.append(member)
        return fitness(member)

    found = greedy_soup(SPACE, ranked, counted, objective)
    better = (lambda a, b: a.accuracy >= b.accuracy) if objective == "accuracy" else (lambda a, b: a.loss <= b.loss)
    assert list(found.members) == greedy_by_hand(ranked, fitness, better) and 1 < len(found.members) < len(ranked)
    assert found.soup == average(SPACE, [c.subnet for c in found.members]) and found.measured == fitness(found.soup)
    assert len(calls) == len(ranked) - 1
    limit = int(1.1 * ranked[0].params)
    small = greedy_soup(SPACE, ranked, fitness, objective, max_params=limit)
    assert SPACE.params(small.soup) <= limit
    with pytest.raises(ValueError, match="more than 1"):
        greedy_soup(SPACE, ranked, fitness, objective, max_params=1)


def test_a_bare_accuracy_serves_greedy_soups_by_accuracy_alone():
    search = searched(lambda member: SPACE.params(member) / 1e4)
    found = greedy_soup(SPACE, search.ranked(), search.fitness)
    assert found.measured.loss is None and found.measured.accuracy >= search.best().accuracy
    with pytest.raises(ValueError, match="no loss"):
        greedy_soup(SPACE, search.ranked(), search.fitness, "loss")


def test_a_space_without_gates_has_no_soups():
    space = NOAHSpace(4, 8)
    one = Candidate(space.largest, 0.5, 1, 0, 0)
    for call in (
        lambda: mean(space),
        lambda: soup(space, [one], 1),
        lambda: greedy_soup(space, [one], lambda member: 0.5),
        lambda: average(space, [space.largest]),
    ):
        with pytest.raises(ValueError, match="NOAHSpace has none"):
            call()
