"""Evolutionary search with inherited weights (GLoRA section 3.4), and random search at the same budget."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from glora.search.base import MOST, Search, at_least
from glora.search.interface import Member


@dataclass
class BreedingSearch(Search[Member]):
    """Random at first; then mutants and crossovers of chosen parents, and random subnets to fill the population.

    Subclasses say by `selector` who breeds. Each generation is evaluated before the next is bred, so all
    `generations` x `population` evaluations count; the published code evaluates one more population that can never win.

    Attributes:
        mutants: children of one parent in a generation.
        crossovers: children of two.
        mutation_probability: with which a mutant redraws each gene.
    """

    mutants: int = at_least(25, 0, MOST)
    crossovers: int = at_least(25, 0, MOST)
    mutation_probability: float = at_least(0.2, 0, 1)

    def selector(self, rng: random.Random) -> Callable[[], Member]:
        """A function that draws one parent at a time."""
        raise NotImplementedError

    def propose(self, rng: random.Random) -> list[Member]:
        """Mutants of one parent each, crossovers of two, then random subnets."""
        if not self.candidates:
            return self.fill([], rng)
        parent = self.selector(rng)
        chosen: list[Member] = []
        self._breed(lambda: self.space.mutate(parent(), self.mutation_probability, rng), self.mutants, chosen)
        self._breed(lambda: self.space.cross(parent(), parent(), rng), self.crossovers, chosen)
        return self.fill(chosen[: self.population], rng)

    def _breed(self, make: Callable[[], Member], count: int, chosen: list[Member]) -> None:
        taken, want = set(chosen), len(chosen) + count
        for _ in range(10 * count):
            if len(chosen) >= want:
                return
            child = make()
            if child not in taken and child not in self._seen and self.fits(child):
                chosen.append(child)
                taken.add(child)


@dataclass
class EvolutionSearch(BreedingSearch[Member]):
    """Population 50, 20 generations, the best 10 of everything evaluated breed 25 mutants and 25 crossovers.

    Attributes:
        parents: how many of the best of everything evaluated breed.
    """

    name = "evolution"

    parents: int = at_least(10, 1, MOST)

    def selector(self, rng: random.Random) -> Callable[[], Member]:
        """Uniform among the best `parents` of everything evaluated."""
        pool = [c.subnet for c in self.ranked()[: self.parents]]
        return lambda: rng.choice(pool)


@dataclass
class RandomSearch(Search[Member]):
    """As many distinct random subnets within the limits as the evolution evaluates."""

    name = "random"

    def propose(self, rng: random.Random) -> list[Member]:
        """A population of random subnets."""
        return self.fill([], rng)
