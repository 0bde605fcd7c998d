"""What every search over subnets shares: candidates, the budget, the size limits and the resumable state.

No torch here: a search sees a space and a fitness function, accuracy and loss of a subnet.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, make_dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, cast

from glora.search.interface import Member, Space
from glora.search.pareto import Point, pareto_front
from glora.search.selection import OBJECTIVES, TIES, Candidate, Fitness, Measured, best_first
from glora.search.state import NOT_FINITE, State
from glora.typed import parse

REJECTION_SHARE = 0.01
"""Of the draws that must fit the limits for rejection: 100 draws a subnet on average, 50 ms on ViT-B's space."""


class NoSubnet(ValueError):
    """No subnet lies within the limits, or none was found."""


def check_limits(space: Space[Member], min_params: int, max_params: int | None) -> None:
    """Raise NoSubnet at once if no subnet can lie within the limits, with the reachable range."""
    low, high = space.params_range
    top = high if max_params is None else max_params
    if min_params > top or top < low or min_params > high:
        raise NoSubnet(
            f"no subnet has between {min_params:,} and {top:,} parameters; this space reaches {low:,} to {high:,}"
        )


MOST = 100_000
"""Of everything that a generation counts, and of generations."""

SEARCHES: dict[str, type[Search[Hashable]]] = {}
"""Every search by name; a class with a `name` of its own enters when it is defined."""


def at_least(default: Any, low: float, high: float | None = None) -> Any:
    """A setting whose number is at least `low` and at most `high`; the bounds stand in the field's metadata."""
    return field(default=default, metadata={"low": low, "high": high})


def one_of(default: str, allowed: tuple[str, ...], key: str | None = None) -> Any:
    """A setting with one of these values; `key` is its name among the settings where that is not the field's."""
    return field(default=default, metadata={"allowed": allowed, **({"key": key} if key else {})})


@dataclass
class Search(Generic[Member]):
    """Base of the searches: evaluate each distinct subnet once, within the limits, at most `budget` of them.

    Subclasses implement `propose`. `step` runs one generation; `state` and `load_state` carry plain JSON values.

    Attributes:
        seed: of its generators.
        generations: steps, the first one random.
        population: distinct subnets of a generation.
        min_params: the smallest subnet allowed.
        max_params: the largest subnet allowed; None: any.
        objective: what is made best, "accuracy", "loss" or "probability"; the setting is called "fitness".
        ties: whether ties of accuracy go to fewer "params" at once, or to the lower "loss" before. Those of the other
            objectives go to the higher accuracy.
        extremes: the first generation begins with the space's extremes (`Space.extremes`) that lie within the limits.
    """

    name: ClassVar[str]

    space: Space[Member]
    fitness: Fitness[Member]
    seed: int = at_least(0, 0, 2**32 - 1)
    generations: int = at_least(20, 1, MOST)
    population: int = at_least(50, 1, MOST)
    min_params: int = at_least(0, 0)
    max_params: int | None = at_least(None, 0)
    candidates: list[Candidate[Member]] = field(default_factory=list)
    generation: int = 0
    objective: str = one_of("accuracy", OBJECTIVES, key="fitness")
    ties: str = one_of("params", TIES)
    extremes: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            SEARCHES[cls.name] = cast("type[Search[Hashable]]", cls)  # it searches any space

    @classmethod
    def settings(cls) -> type:
        """The dataclass of the search's own settings: its fields without space, fitness function and state."""
        copies = [(k, f.type, field(default=f.default, metadata=f.metadata)) for k, f in cls._own().items()]
        return make_dataclass(f"{cls.__name__}Settings", copies)

    @classmethod
    def with_settings(cls, space: Space[Member], fitness: Fitness[Member], settings: Mapping[str, Any]) -> Self:
        """The search with the settings of these keys (`settings`); those that it does not have are left out.

        Raises:
            NoSubnet: if no subnet lies within the limits.
        """
        own = cls._own()
        return cls(space, fitness, **{own[k].name: v for k, v in settings.items() if k in own})

    @classmethod
    def _own(cls) -> dict[str, Field[Any]]:
        state = ("space", "fitness", "candidates", "generation")
        return {f.metadata.get("key", f.name): f for f in fields(cls) if f.name not in state}

    def __post_init__(self) -> None:
        check_limits(self.space, self.min_params, self.max_params)
        if self.population < 1 or self.generations < 1:
            raise ValueError("population and generations must be at least 1")
        best_first([], self.objective, self.ties)  # raises for words that are none
        self._seen = {c.subnet for c in self.candidates}
        self._high = self.space.params_range[1] if self.max_params is None else self.max_params

    @property
    def done(self) -> bool:
        """All generations are evaluated."""
        return self.generation >= self.generations

    @property
    def needs(self) -> str | None:
        """What the order of candidates depends on beside their accuracy, "loss" or "probability"."""
        return next((k for k in (self.objective, self.ties) if k in OBJECTIVES[1:]), None)

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

        Raises:
            NoSubnet: if none of 200 draws can be made to fit.
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
        raise NoSubnet(f"found no subnet between {self.min_params:,} and {self._high:,} parameters in 200 draws")

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

    def step(self, ahead: Callable[[Sequence[Member]], object] = lambda proposed: None) -> list[Candidate[Member]]:
        """Propose and evaluate one generation. Its randomness is a function of (seed, generation).

        Args:
            ahead: gets the generation before any of it is evaluated, as where several processes share the work.
        """
        rng = random.Random(f"search-{self.seed}-{self.generation}")
        new: list[Candidate[Member]] = []
        proposed = self.propose(rng)
        if self.extremes and self.generation == 0:
            fitting = [subnet for subnet in self.space.extremes if self.fits(subnet)]
            proposed = list(dict.fromkeys([*fitting, *proposed]))[: self.population]
        ahead(proposed)
        for subnet in proposed:
            index = len(self.candidates) + len(new)
            found = Measured.of(self.fitness(subnet))
            if self.needs and getattr(found, self.needs) is None:
                raise ValueError(f"the fitness function gives no {self.needs}, and this search goes by it too")
            new.append(Candidate.of(subnet, found, self.space.params(subnet), index, self.generation))
        self.candidates += new
        self._seen |= {c.subnet for c in new}
        self.generation += 1
        return new

    def ranked(self) -> list[Candidate[Member]]:
        """Everything evaluated, the best by objective and tie rule first."""
        return best_first(self.candidates, self.objective, self.ties)

    def best(self) -> Candidate[Member]:
        """The winner under the tie rule. Raises ValueError before the first generation."""
        if not self.candidates:
            raise ValueError("the search has evaluated nothing yet")
        return self.ranked()[0]

    def point(self, candidate: Candidate[Member]) -> Point:
        """A candidate's two objectives: parameters, to be small, and what `worth` gives, to be large."""
        return candidate.params, candidate.worth(self.objective)

    def front(self) -> list[Candidate[Member]]:
        """The evaluated candidates that no other beats in the objective and parameters, by parameters."""
        return [self.candidates[i] for i in pareto_front([self.point(c) for c in self.candidates])]

    def state(self) -> dict[str, Any]:
        """Everything a continuation needs, as JSON values."""
        rows = [
            {
                **self.space.encode(k.subnet),
                **{
                    name: found if math.isfinite(found) else NOT_FINITE
                    for name, found in k.measured._asdict().items()
                    if found is not None
                },
                "params": k.params,
                "generation": k.generation,
            }
            for k in self.candidates
        ]
        return {"generation": self.generation, "candidates": rows}

    def load_state(self, state: State | Mapping[str, Any]) -> None:
        """Continue where `state` was taken.

        Raises:
            ValueError: if it is no state of a search with this space, these limits and this budget, or if the search
                goes by what the state does not hold (those of earlier versions). Nothing is changed then.
        """
        found = state if isinstance(state, State) else parse(State.model_validate, dict(state))
        if found.generation > self.generations or found.largest_generation > self.population:
            raise ValueError(f"it holds {found.generation} generations of at most {found.largest_generation} subnets, "
                             f"and this search has {self.generations} of {self.population}")  # fmt: skip
        candidates: list[Candidate[Member]] = []
        for index, row in enumerate(found.candidates):
            subnet = self.space.decode(row.subnet)
            if row.params != self.space.params(subnet) or not self.fits(subnet):
                raise ValueError(f"candidate {index} has {self.space.params(subnet):,} parameters, not {row.params:,} "
                                 f"within {self.min_params:,} to {self._high:,}")  # fmt: skip
            candidates.append(Candidate.of(subnet, row.measured, row.params, index, row.generation))
        seen = {c.subnet for c in candidates}
        if len(seen) < len(candidates):
            raise ValueError("a subnet is in it twice, and a search evaluates each once")
        if self.needs and any(getattr(c, self.needs) is None for c in candidates):
            raise ValueError(f"not all of its candidates have a {self.needs}, and this search goes by it too")
        self.candidates, self._seen, self.generation = candidates, seen, found.generation
