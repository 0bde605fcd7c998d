"""What is measured of a subnet, in which order candidates stand, and how sure that order is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Self

from glora.search.interface import Member

OBJECTIVES = ("accuracy", "loss", "probability")
TIES = ("params", "loss")


class Measured(NamedTuple):
    """Top-1 accuracy in [0, 1], mean cross-entropy in nats, mean probability of the label; None where not known."""

    accuracy: float
    loss: float | None = None
    probability: float | None = None

    @classmethod
    def of(cls, found: Measured | float) -> Measured:
        """What a fitness function gave, a bare number being an accuracy."""
        return found if isinstance(found, Measured) else cls(found)


Fitness = Callable[[Member], Measured | float]
"""What a subnet achieves; a bare number is an accuracy in [0, 1], of which nothing else is known."""


@dataclass(frozen=True)
class Candidate(Generic[Member]):
    """An evaluated subnet; `index` is its place in the order of evaluation, the rest as in `Measured`."""

    subnet: Member
    accuracy: float
    params: int
    index: int
    generation: int
    loss: float | None = None
    probability: float | None = None

    @classmethod
    def of(cls, subnet: Member, measured: Measured, params: int, index: int, generation: int) -> Self:
        """The candidate of which that was measured."""
        return cls(subnet, measured.accuracy, params, index, generation, measured.loss, measured.probability)

    @property
    def measured(self) -> Measured:
        """What is known of it."""
        return Measured(self.accuracy, self.loss, self.probability)

    def worth(self, objective: str) -> float:
        """The number that a search by this objective makes large; see `worth`."""
        return worth(self.measured, objective)


def worth(measured: Measured, objective: str) -> float:
    """The accuracy, the probability, or minus the loss; what is no number is the worst of all.

    Raises:
        ValueError: for another objective, or if it is not known.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective={objective} is not one of {', '.join(OBJECTIVES)}")
    found: float | None = getattr(measured, objective)
    if found is None:
        raise ValueError(f"no {objective} is known; glora.evaluation.measure gives {', '.join(OBJECTIVES)}")
    if math.isnan(found):
        return -math.inf
    return -found if objective == "loss" else found


def best_first(
    candidates: Iterable[Candidate[Member]], objective: str = "accuracy", ties: str = "params"
) -> list[Candidate[Member]]:
    """Candidates in the order of the objective; equal ones with fewer parameters first, then those found earlier.

    Args:
        candidates: in any order.
        objective: "accuracy", "loss" or "probability" (ties of the last two go to the higher accuracy first).
        ties: whether ties of accuracy go to fewer "params" at once, or to the lower "loss" before.
    """

    def key(c: Candidate[Member]) -> tuple[float, ...]:
        if objective == "accuracy" and ties == "params":
            return (-c.accuracy, c.params, c.index)
        second = ties if objective == "accuracy" else "accuracy"
        return (-c.worth(objective), -c.worth(second), c.params, c.index)

    if objective not in OBJECTIVES or ties not in TIES:
        raise ValueError(f"objective={objective}, ties={ties}: allowed are {OBJECTIVES} and {TIES}")
    return sorted(candidates, key=key)


class SelectionNoise(NamedTuple):
    """How sure a selection is: the winner's standard error, and how many other candidates lie within it."""

    standard_error: float
    within: int


def selection_noise(candidates: Sequence[Candidate[Member]], winner: Candidate[Member], images: int) -> SelectionNoise:
    """The binomial standard error sqrt(p (1 - p) / n) of the winner's accuracy p on n `images`, in [0, 1].

    `within` counts the other candidates whose accuracy is at most that far from the winner's, on either side: which of
    them is best is not known from these images. Candidates see the same images, so a difference is surer than that; and
    a winner is the luckiest of many, so its accuracy is too high by about as much.

    Raises:
        ValueError: if there are no images.
    """
    if images < 1:
        raise ValueError(f"images={images}: an accuracy is measured on at least one")
    p = winner.accuracy
    error = math.sqrt(p * (1 - p) / images)
    # Accuracies are multiples of 1 / n: the slack takes the rounding of their difference alone.
    near = [c for c in candidates if abs(c.accuracy - p) <= error + 1e-9]
    return SelectionNoise(error, sum(c.index != winner.index for c in near))
