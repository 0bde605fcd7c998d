"""What a search may hand over besides its best candidate: averages of candidates, and that of the whole space.

    best = search.ranked()
    supernet.merge(soup(space, best, 10))                           # the ten best
    supernet.merge(greedy_soup(space, best, search.fitness).soup)   # those that do no harm
    supernet.merge(mean(space))                                     # no search at all

Each is a `glora.soup.Soup` and merges into one plain model. It may store more than any of its members does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from glora.gates import Choice, Row, gate_row
from glora.options import all_configs
from glora.search.interface import Space
from glora.search.selection import Candidate, Fitness, Measured, worth
from glora.soup import Soup
from glora.space import SearchSpace, Subnet


def average(space: Space[Any], members: Sequence[Subnet | Soup]) -> Soup:
    """The soup whose gates are the members' averages; its merged weights are theirs.

    Raises:
        ValueError: without members, or for a space whose subnets are not gates (NOAH's).
    """
    gated = _gated(space)
    if not members:
        raise ValueError("a soup has at least one member")
    chosen: list[tuple[Choice, ...]] = [member.layers for member in members]
    return Soup(tuple(_average([gate_row(c, gated.ranks[0]) for c in layer]) for layer in zip(*chosen, strict=True)))


def _average(rows: Sequence[Row]) -> Row:
    return tuple(math.fsum(gates) / len(rows) for gates in zip(*rows, strict=True))


def _gated(space: Space[Any]) -> SearchSpace:
    if not isinstance(space, SearchSpace):
        raise ValueError(
            f"a soup averages the gates of equation 10, and {type(space).__name__} has none (its subnets choose widths "
            "of modules that are not linear); its winner is a subnet"
        )
    return space


def mean(space: Space[Any]) -> Soup:
    """The expectation over uniform draws of the space (`sample`), in closed form.

    W and b are affine in the gates and the layers are drawn independently, so the merged weights are the expected ones
    exactly. The network's outputs are not averaged: they are not affine in the weights.

    Raises:
        ValueError: for a space whose subnets are not gates (NOAH's).
    """
    gated = _gated(space)
    by_bias = {
        bias: _average([gate_row(c, gated.ranks[0]) for c in all_configs(gated.ranks, bias, gated.tensors)])
        for bias in {spec.bias for spec in gated.layers}
    }
    return Soup(tuple(by_bias[spec.bias] for spec in gated.layers))


def soup(space: Space[Any], ranked: Sequence[Candidate[Any]], k: int) -> Soup:
    """The average of the `k` best candidates (a uniform soup).

    Args:
        space: of the search.
        ranked: candidates, the best first (`Search.ranked`).
        k: how many; all where there are fewer.

    Raises:
        ValueError: for no members, or for a space whose subnets are not gates (NOAH's).
    """
    return average(space, [c.subnet for c in ranked[: max(0, k)]])


class GreedySoup(NamedTuple):
    """A soup, the candidates that it averages, and what was measured of it."""

    soup: Soup
    members: tuple[Candidate[Subnet], ...]
    measured: Measured


def greedy_soup(
    space: Space[Any],
    ranked: Sequence[Candidate[Any]],
    fitness: Fitness[Any],
    objective: str = "accuracy",
    max_params: int | None = None,
) -> GreedySoup:
    """The greedy soup of Wortsman et al. 2022: candidates in order, each kept where the objective gets no worse.

    Args:
        space: of the search.
        ranked: candidates, the best first (`Search.ranked`); cut it (`ranked[:20]`) to try fewer. Each but the first
            costs one evaluation.
        fitness: of the search; it is given soups.
        objective: the search's.
        max_params: a member that would make the soup store more is passed over.

    Raises:
        ValueError: without candidates, if what the objective needs is not known, if the first candidate exceeds
            `max_params`, or for a space whose subnets are not gates (NOAH's).
    """
    members = list(ranked[:1])
    best = average(space, [c.subnet for c in members])
    found = members[0].measured
    limit = math.inf if max_params is None else max_params
    if members[0].params > limit:
        raise ValueError(f"the best candidate has {members[0].params:,} parameters, more than {limit:,}")
    for candidate in ranked[1:]:
        mixed = average(space, [c.subnet for c in [*members, candidate]])
        if space.params(mixed) > limit:
            continue
        measured = Measured.of(fitness(mixed))
        if worth(measured, objective) >= worth(found, objective):
            members, best, found = [*members, candidate], mixed, measured
    return GreedySoup(best, tuple(members), found)
