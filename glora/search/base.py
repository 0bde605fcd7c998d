"""What every search over subnets shares: candidates, the budget, the size limits and the resumable state.

No torch here: a search sees a space and a fitness function, accuracy in [0, 1] of a subnet.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, make_dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, cast

from glora.search.interface import Member, Space
from glora.search.pareto import pareto_front

REJECTION_SHARE = 0.01
"""Of the draws that must fit the limits for rejection: 100 draws a subnet on average, 50 ms on ViT-B's space."""


@dataclass(frozen=True)
class Candidate(Generic[Member]):
    """An evaluated subnet; `index` is its place in the order of evaluation."""

    subnet: Member
    accuracy: float
    params: int
    index: int
    generation: int


def best_first(candidates: list[Candidate[Member]]) -> list[Candidate[Member]]:
    """The tie rule: higher accuracy, then fewer parameters, then earlier found."""
    return sorted(candidates, key=lambda c: (-c.accuracy, c.params, c.index))


def check_limits(space: Space[Member], min_params: int, max_params: int | None) -> None:
    """Raise ValueError at once if no subnet can lie within the limits, with the reachable range."""
    low, high = space.params_range
    top = high if max_params is None else max_params
    if min_params > top or top < low or min_params > high:
        raise ValueError(
            f"no subnet has between {min_params:,} and {top:,} parameters; this space reaches {low:,} to {high:,}"
        )


SEARCHES: dict[str, type[Search[Hashable]]] = {}
"""Every search by name; a class with a `name` of its own enters when it is defined."""


def at_least(default: Any, low: float, high: float | None = None) -> Any:
    """A setting whose number is at least `low` and at most `high`; the bounds stand in the field's metadata."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass
class Search(Generic[Member]):
    """Base of the searches: evaluate each distinct subnet once, within the limits, at most `budget` of them.

    Subclasses implement `propose`. `step` runs one generation; `state` and `load_state` carry plain JSON values.
    """

    name: ClassVar[str]

    space: Space[Member]
    fitness: Callable[[Member], float]
    seed: int = 0
    generations: int = at_least(20, 1)
    population: int = at_least(50, 1)
    min_params: int = at_least(0, 0)
    max_params: int | None = at_least(None, 0)
    candidates: list[Candidate[Member]] = field(default_factory=list)
    generation: int = 0

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            SEARCHES[cls.name] = cast("type[Search[Hashable]]", cls)  # it searches any space

    @classmethod
    def settings(cls) -> type:
        """The dataclass of the search's own settings: its fields without space, fitness and state."""
        state = ("space", "fitness", "candidates", "generation")
        own = [f for f in fields(cls) if f.name not in state]
        copies = [(f.name, f.type, field(default=f.default, metadata=f.metadata)) for f in own]
        return make_dataclass(f"{cls.__name__}Settings", copies)

    def __post_init__(self) -> None:
        check_limits(self.space, self.min_params, self.max_params)
        if self.population < 1 or self.generations < 1:
            raise ValueError("population and generations must be at least 1")
        self._seen = {c.subnet for c in self.candidates}
        self._high = self.space.params_range[1] if self.max_params is None else self.max_params

    @property
    def done(self) -> bool:
        """All generations are evaluated."""
        return self.generation >= self.generations

    def fits(self, subnet: Member) -> bool:
        """Within the size limits."""
        return self.min_params <= self.space.params(subnet) <= self._high

    @cached_property
    def rejects(self) -> bool:
        """Whether draws outside the limits are drawn again: where at least `REJECTION_SHARE` of 1,000 fixed ones fit.

        A function of the space and the limits alone, so a resumed search draws as the unbroken one.
        """
        rng = random.Random("share of the draws that fit")
        return sum(self.fits(self.space.sample(rng)) for _ in range(1000)) >= 1000 * REJECTION_SHARE

    def draw(self, rng: random.Random) -> Member:
        """A random subnet within the limits: uniform among those the space samples (rejection).

        Where too few draws fit for that, one that does not is changed until it does (`Space.fit`), which is not
        uniform: such subnets lie near the limit.
        """
        subnet = self.space.sample(rng)
        if not self.fits(subnet) and self.rejects:
            for _ in range(math.ceil(100 / REJECTION_SHARE)):
                subnet = self.space.sample(rng)
                if self.fits(subnet):
                    break
        for _ in range(200):
            fitted = subnet if self.fits(subnet) else self.space.fit(subnet, self.min_params, self._high, rng)
            if fitted is not None:
                return fitted
            subnet = self.space.sample(rng)
        raise ValueError(
            f"found no subnet between {self.min_params:,} and {self._high:,} parameters in 200 draws; widen the limits"
        )

    def propose(self, rng: random.Random) -> list[Member]:
        """The next generation's subnets, distinct and unseen, at most `population`."""
        raise NotImplementedError

    def fill(self, chosen: list[Member], rng: random.Random) -> list[Member]:
        """Top up with random subnets to the population; stops early only where the space is exhausted."""
        taken = set(chosen)
        for _ in range(100 * self.population):
            if len(chosen) >= self.population:
                break
            subnet = self.draw(rng)
            if subnet not in taken and subnet not in self._seen:
                chosen.append(subnet)
                taken.add(subnet)
        return chosen

    def step(self) -> list[Candidate[Member]]:
        """Propose and evaluate one generation. Its randomness is a function of (seed, generation)."""
        rng = random.Random(f"search-{self.seed}-{self.generation}")
        new: list[Candidate[Member]] = []
        for subnet in self.propose(rng):
            index = len(self.candidates) + len(new)
            accuracy = self.fitness(subnet)
            new.append(Candidate(subnet, accuracy, self.space.params(subnet), index, self.generation))
        self.candidates += new
        self._seen |= {c.subnet for c in new}
        self.generation += 1
        return new

    def best(self) -> Candidate[Member]:
        """The winner under the tie rule. Raises ValueError before the first generation."""
        if not self.candidates:
            raise ValueError("the search has evaluated nothing yet")
        return best_first(self.candidates)[0]

    def front(self) -> list[Candidate[Member]]:
        """The evaluated candidates that no other beats in accuracy and parameters, by parameters."""
        return [self.candidates[i] for i in pareto_front([(c.params, c.accuracy) for c in self.candidates])]

    def state(self) -> dict[str, Any]:
        """Everything a continuation needs, as JSON values."""
        rows = [
            {
                **self.space.encode(k.subnet),
                "accuracy": k.accuracy,
                "params": k.params,
                "generation": k.generation,
            }
            for k in self.candidates
        ]
        return {"generation": self.generation, "candidates": rows}

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.candidates = [
            Candidate(self.space.decode(row), row["accuracy"], row["params"], i, row["generation"])
            for i, row in enumerate(state["candidates"])
        ]
        self._seen = {c.subnet for c in self.candidates}
        self.generation = state["generation"]
