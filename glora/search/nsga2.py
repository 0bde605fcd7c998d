"""NSGA-II (Deb et al. 2002) over subnets: validation accuracy up or loss down, parameters down."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from glora.search.evolution import BreedingSearch
from glora.search.interface import Member
from glora.search.pareto import crowding_distances, nondominated_sort
from glora.search.selection import Candidate


@dataclass
class NSGA2Search(BreedingSearch[Member]):
    """Parents are kept by non-domination rank and crowding, and chosen to breed in binary tournaments.

    Children come from the evolution's operators at the same budget. The winner is the same too: the best by the
    objective within the limits; `front` holds the trade-offs. The parents of a generation follow from the candidates
    alone, so a resumed search needs nothing else.
    """

    name = "nsga2"

    def selector(self, rng: random.Random) -> Callable[[], Member]:
        """The better of two random parents: lower rank, then more room around it, then chance."""
        parents = self._parents()

        def tournament() -> Member:
            one, other = rng.choice(parents), rng.choice(parents)
            if one[1] == other[1]:
                return rng.choice((one, other))[0]
            return min(one, other, key=lambda p: p[1])[0]

        return tournament

    def _parents(self) -> list[tuple[Member, tuple[int, float]]]:
        """The survivors after each generation's union with its parents, with (rank, minus crowding)."""
        kept: list[tuple[Candidate[Member], tuple[int, float]]] = []
        for generation in range(self.generation):
            pool = [c for c, _ in kept] + [c for c in self.candidates if c.generation == generation]
            points = [self.point(c) for c in pool]
            ranked = []
            for rank, front in enumerate(nondominated_sort(points)):
                room = crowding_distances([points[i] for i in front])
                ranked += [(pool[i], (rank, -r)) for i, r in zip(front, room, strict=True)]
            kept = sorted(ranked, key=lambda p: (p[1], p[0].index))[: self.population]
        return [(c.subnet, quality) for c, quality in kept]
