"""NSGA-II and what compares fronts, against hand computation, brute force and an exactly known trade-off."""

import random

import pytest

from glora import NSGA2Search, RandomSearch
from glora.options import TENSORS, layer_options, tensor_params
from glora.search import hypervolume, pareto_front
from glora.search.pareto import crowding_distances, dominates, nondominated_sort
from tests.helpers.spaces import small_space, vectors

INF = float("inf")


def points(count, seed, grid=12):
    rng = random.Random(seed)
    return [(rng.randrange(grid), rng.randrange(grid) / grid) for _ in range(count)]


def test_hypervolume_by_hand():
    assert hypervolume([], (10, 0)) == 0
    assert hypervolume([(4, 0.5)], (10, 0)) == 3
    assert hypervolume([(4, 0.5), (8, 1.0), (9, 0.25)], (10, 0)) == 4  # 6 * 0.5 + 2 * 0.5, the last is dominated
    assert hypervolume([(4, 0.5), (8, 1.0)], (8, 0.25)) == 1  # at the limit a point adds nothing


@pytest.mark.parametrize("seed", range(20))
def test_hypervolume_equals_the_count_of_dominated_cells(seed):
    found = points(15, seed)
    cells = sum(any(p <= x and a * 12 > y + 0.5 for p, a in found) for x in range(10) for y in range(2, 12))
    assert hypervolume(found, (10, 2 / 12)) == pytest.approx(cells / 12)


@pytest.mark.parametrize("seed", range(10))
def test_fronts_follow_from_the_definition(seed):
    found, fronts = points(40, seed), []
    left = list(range(40))
    while left:  # peel by definition
        fronts.append([i for i in left if not any(dominates(found[j], found[i]) for j in left)])
        left = [i for i in left if i not in fronts[-1]]
    assert nondominated_sort(found) == fronts
    assert {found[i] for i in pareto_front(found)} == {found[i] for i in fronts[0]}


def test_crowding_by_hand():
    assert crowding_distances([(0, 0.0), (4, 0.5), (10, 1.0), (5, 0.6)]) == pytest.approx([INF, 1.1, INF, 1.1])
    assert crowding_distances([(3, 0.5)] * 3) == [INF, 0, INF]
    assert crowding_distances([]) == []


def separable(space, seed=0):
    """A worth per gene and option, summed: a knapsack, whose exact trade-off dynamic programming gives."""
    rng = random.Random(seed)
    worth = [[{o: rng.random() / 40 for o in os} for os in layer_options(space.ranks)] for _ in space.layers]
    best = {0: 0.0}
    for spec, tensors in zip(space.layers, worth, strict=True):
        for tensor, options in zip(TENSORS, tensors, strict=True):
            grown: dict[int, float] = {}
            for size, value in best.items():
                for option, gain in options.items():
                    total = size + tensor_params(tensor, option, spec.d_in, spec.d_out)
                    grown[total] = max(grown.get(total, 0.0), value + gain)
            best = grown

    def fitness(subnet):
        return sum(t[o] for c, ts in zip(subnet.layers, worth, strict=True) for o, t in zip(c, ts, strict=True))

    return fitness, list(best.items())


def test_it_comes_nearer_to_the_exact_front_than_random_search():
    space = small_space()
    fitness, exact = separable(space)
    reference = (space.params_range[1], 0.0)
    whole = hypervolume(exact, reference)
    share = {}
    for kind in (NSGA2Search, RandomSearch):
        search = kind(space, fitness, seed=0, generations=30, population=50)
        while not search.done:
            search.step()
        found = [(c.params, c.accuracy) for c in search.candidates]
        share[kind] = hypervolume(found, reference) / whole
        assert hypervolume([(c.params, c.accuracy) for c in search.front()], reference) / whole == share[kind]
    assert share[NSGA2Search] < 1 and share[NSGA2Search] > share[RandomSearch] + 0.1


def test_limits_budget_and_resuming_hold_as_for_the_other_searches():
    settings = {"seed": 4, "generations": 4, "population": 20, "mutants": 10, "crossovers": 10, "max_params": 1500}
    whole = NSGA2Search(small_space(), vectors, **settings)
    while not whole.done:
        assert len(whole.step()) == 20
    assert len({c.subnet for c in whole.candidates}) == 80
    assert max(c.params for c in whole.candidates) <= 1500
    for stop in range(1, 4):
        first = NSGA2Search(small_space(), vectors, **settings)
        for _ in range(stop):
            first.step()
        second = NSGA2Search(small_space(), vectors, **settings)
        second.load_state(first.state())
        while not second.done:
            second.step()
        assert second.candidates == whole.candidates
