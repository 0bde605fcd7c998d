"""Searches: budget, limits, tie rule, resuming, and that evolution finds a known optimum faster than chance."""

import random
from collections import Counter

import pytest

from glora import EvolutionSearch, LayerSpec, RandomSearch, SearchSpace
from glora.search import Candidate, best_first
from glora.space import Subnet
from tests.helpers.spaces import small_space, vectors, vit_b_space


@pytest.mark.parametrize("kind", [EvolutionSearch, RandomSearch])
def test_budget_is_met_and_every_subnet_is_new(kind):
    search = kind(small_space(), vectors, seed=1, generations=6, population=50)
    while not search.done:
        assert len(search.step()) == 50
    assert len({c.subnet for c in search.candidates}) == 300


def test_evolution_beats_random_on_a_known_landscape():
    best = []
    for kind in (EvolutionSearch, RandomSearch):
        search = kind(small_space(), vectors, seed=0)
        while not search.done:
            search.step()
        best.append(search.best().accuracy)
    assert best[0] > best[1] + 0.2


@pytest.mark.parametrize("limit", [None, 1_300, 400])  # uniform draws, rejected ones, repaired ones
def test_resuming_after_any_generation_equals_the_unbroken_search(limit):
    whole = EvolutionSearch(small_space(), vectors, seed=5, generations=4, population=20, max_params=limit)
    while not whole.done:
        whole.step()
    for stop in range(1, 4):
        first = EvolutionSearch(small_space(), vectors, seed=5, generations=4, population=20, max_params=limit)
        for _ in range(stop):
            first.step()
        second = EvolutionSearch(small_space(), vectors, seed=5, generations=4, population=20, max_params=limit)
        second.load_state(first.state())
        while not second.done:
            second.step()
        assert second.candidates == whole.candidates


@pytest.mark.parametrize("limit", [1, 1_000, 100_000, 400_000, 1_000_000, 3_041_664])
def test_any_reachable_limit_yields_candidates(limit):
    search = EvolutionSearch(vit_b_space((8, 4)), vectors, max_params=limit, generations=2, population=20)
    for _ in range(2):
        search.step()
    assert len(search.candidates) == (40 if limit > 1 else len(search.candidates)) and search.candidates
    assert max(c.params for c in search.candidates) <= limit


def test_draws_under_a_limit_are_uniform_among_the_subnets_that_fit():
    space = SearchSpace((LayerSpec("l", 4, 4),), (2, 1), "AB")
    search = RandomSearch(space, vectors, min_params=5, max_params=12)
    fitting = [s for s in (Subnet((c,)) for c in space.configs(0)) if 5 <= space.params(s) <= 12]
    rng = random.Random(0)
    counts = Counter(search.draw(rng) for _ in range(200 * len(fitting)))
    assert set(counts) == set(fitting) and 5 < len(fitting) < 20
    assert max(abs(n - 200) for n in counts.values()) < 5 * 200**0.5


def test_a_limit_draws_no_crowd_below_it():
    """At the 20th percentile of ViT-B's space the share within 3 % of the limit is that of the space."""
    space, rng = vit_b_space((8, 4)), random.Random(0)
    limit = sorted(space.params(space.sample(rng)) for _ in range(500))[100]
    below = [n for n in (space.params(space.sample(rng)) for _ in range(2500)) if n <= limit]
    search = RandomSearch(space, vectors, max_params=limit)
    drawn = [space.params(search.draw(rng)) for _ in range(400)]
    near, expected = (sum(n > 0.97 * limit for n in sizes) / len(sizes) for sizes in (drawn, below))
    assert max(drawn) <= limit and near == pytest.approx(expected, abs=0.1)


def test_draws_without_a_limit_are_the_spaces_own_samples():
    space, one, two = small_space(), random.Random(3), random.Random(3)
    search = RandomSearch(space, vectors)
    assert [search.draw(one) for _ in range(50)] == [space.sample(two) for _ in range(50)]


def test_a_limit_that_hardly_any_draw_meets_is_met_by_repair_in_time():
    space, count = vit_b_space((8, 4)), 0

    class Counted(RandomSearch):
        def fits(self, subnet):
            nonlocal count
            count += 1
            return super().fits(subnet)

    search = Counted(space, vectors, max_params=600_000)
    drawn = [search.draw(random.Random(i)) for i in range(20)]
    assert not search.rejects and all(space.params(s) <= 600_000 for s in drawn)
    assert count < 1000 + 20 * 10


def test_unreachable_limits_are_refused_with_the_range():
    with pytest.raises(ValueError, match="reaches 0 to 3,041,664"):
        RandomSearch(vit_b_space((8, 4)), vectors, min_params=4_000_000)
    with pytest.raises(ValueError, match="reaches 0 to 3,041,664"):
        RandomSearch(vit_b_space((8, 4)), vectors, max_params=-1)


def test_ties_go_to_fewer_parameters_then_to_the_earlier():
    subnet = small_space().smallest
    rows = [Candidate(subnet, 0.5, 9, 0, 0), Candidate(subnet, 0.5, 7, 1, 0), Candidate(subnet, 0.5, 7, 2, 0)]
    assert [c.index for c in best_first([*rows, Candidate(subnet, 0.6, 99, 3, 0)])] == [3, 1, 2, 0]
