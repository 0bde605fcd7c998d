"""What a search needs of a space of subnets; GLoRA's is `glora.space.SearchSpace`, NOAH's `NOAHSpace`."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Any, Protocol, TypeVar

Member = TypeVar("Member", bound=Hashable)
"""The type of a space's subnets: frozen, hashable values that the space alone looks into."""


class Space(Protocol[Member]):
    """All subnets of one supernet. Every method that draws takes its generator."""

    @property
    def largest(self) -> Member:
        """The subnet with the most parameters."""

    @property
    def smallest(self) -> Member:
        """The subnet with the fewest parameters."""

    @property
    def extremes(self) -> tuple[Member, ...]:
        """The largest, the smallest, and each kind of part alone at its largest; none twice."""

    @property
    def params_range(self) -> tuple[int, int]:
        """Parameters of the smallest and of the largest subnet."""

    def describe(self) -> str:
        """One line on the size of the space."""

    def params(self, subnet: Member) -> int:
        """Trainable parameters of a subnet, head not counted."""

    def sample(self, rng: random.Random) -> Member:
        """A random subnet, as a training step or the first generation draws it."""

    def mutate(self, parent: Member, probability: float, rng: random.Random) -> Member:
        """A changed copy of `parent`; what `probability` is of is the space's."""

    def cross(self, one: Member, other: Member, rng: random.Random) -> Member:
        """A child of two parents."""

    def fit(self, subnet: Member, low: int, high: int, rng: random.Random) -> Member | None:
        """A subnet like this one with `low` to `high` parameters, or None if none is found."""

    def encode(self, subnet: Member) -> dict[str, Any]:
        """The subnet as named JSON values, for the state of a search."""

    def decode(self, row: dict[str, Any]) -> Member:
        """Inverse of `encode`; other entries of `row` are ignored."""

    def to_json(self, subnet: Member) -> str:
        """The readable file of one subnet."""

    def from_json(self, text: str) -> Hashable:
        """Inverse of `to_json`, of soups too where there are any. Raises ValueError if it is none of this space."""

    def choices(self, subnet: Member) -> dict[str, dict[str, str]]:
        """What was chosen, for a picture: column (a layer, a block), row (a tensor, a module), the option's word."""

    def sizes(self, subnet: Member) -> dict[str, int]:
        """Parameters by part; the last word of a part's dotted name is its type."""
