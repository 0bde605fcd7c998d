"""Seeded, class-balanced splits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int64], sizes: list[int], rng: np.random.Generator) -> list[NDArray[np.int64]]:
    """Disjoint random index sets of `sizes` with each class in its overall share.

    Examples are spread over the unit interval class by class, at even steps; cutting the merged order anywhere
    then cuts each class in the same proportion, to within one example.
    """
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        position[members] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(position, kind="stable")
    cuts = np.cumsum(sizes)
    # The merged order goes round the classes; each part is shuffled so that its order says nothing.
    return [rng.permutation(order[stop - size : stop]) for size, stop in zip(sizes, cuts, strict=True)]
