"""Evolutionary search with inherited weights (GLoRA section 3.4), and random search at the same budget."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from glora.options import LayerConfig, layer_options
from glora.search.base import Search, best_first
from glora.space import Subnet


@dataclass
class EvolutionSearch(Search):
    """Population 50, 20 generations, the best 10 of everything evaluated breed 25 mutants and 25 crossovers.

    Each generation is evaluated before the next is bred, so all `generations` x `population` evaluations count; the
    published code evaluates one more population that can never win.
    """

    parents: int = 10
    mutants: int = 25
    crossovers: int = 25
    mutation_probability: float = 0.2

    def propose(self, rng: random.Random) -> list[Subnet]:
        """Random at first; then mutants, crossovers and random subnets to fill the population."""
        if not self.candidates:
            return self.fill([], rng)
        pool = [c.subnet for c in best_first(self.candidates)[: self.parents]]
        chosen: list[Subnet] = []
        self._breed(lambda: self._mutate(rng.choice(pool), rng), self.mutants, chosen)
        self._breed(lambda: self._cross(rng.choice(pool), rng.choice(pool), rng), self.crossovers, chosen)
        return self.fill(chosen[: self.population], rng)

    def _breed(self, make: Callable[[], Subnet], count: int, chosen: list[Subnet]) -> None:
        taken, want = set(chosen), len(chosen) + count
        for _ in range(10 * count):
            if len(chosen) >= want:
                return
            child = make()
            if child not in taken and child not in self._seen and self.fits(child):
                chosen.append(child)
                taken.add(child)

    def _mutate(self, parent: Subnet, rng: random.Random) -> Subnet:
        layers = []
        for config, spec in zip(parent.layers, self.space.layers, strict=True):
            options = layer_options(self.space.ranks, spec.bias)
            genes = [
                rng.choice(allowed) if rng.random() < self.mutation_probability else gene
                for gene, allowed in zip(config, options, strict=True)
            ]
            layers.append(LayerConfig(*genes))
        return Subnet(tuple(layers))

    def _cross(self, one: Subnet, other: Subnet, rng: random.Random) -> Subnet:
        layers = (
            LayerConfig(*(rng.choice(pair) for pair in zip(a, b, strict=True)))
            for a, b in zip(one.layers, other.layers, strict=True)
        )
        return Subnet(tuple(layers))


@dataclass
class RandomSearch(Search):
    """As many distinct random subnets within the limits as the evolution evaluates."""

    def propose(self, rng: random.Random) -> list[Subnet]:
        """A population of random subnets."""
        return self.fill([], rng)
