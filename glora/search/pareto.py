"""Two objectives, parameters down and worth up: fronts, crowding and the hypervolume that compares fronts.

A point is (parameters, worth); the worth is the accuracy, or minus the loss (`glora.search.selection.worth`). It
dominates another if it is no worse in both and better in one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Point = tuple[float, float]


def dominates(one: Point, other: Point) -> bool:
    """No more parameters, no lower worth, and better in one of them."""
    return one[0] <= other[0] and one[1] >= other[1] and one != other


def pareto_front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates, by parameters; of equal points the first."""
    front: list[int] = []
    best = -math.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def nondominated_sort(points: Sequence[Point]) -> list[list[int]]:
    """Indices by front, the undominated first; equal points share a front (Deb et al. 2002, fast sorting)."""
    beats: list[list[int]] = [[] for _ in points]
    beaten_by = [0] * len(points)
    for i, one in enumerate(points):
        for j, other in enumerate(points):
            if dominates(one, other):
                beats[i].append(j)
                beaten_by[j] += 1
    fronts = []
    front = [i for i, count in enumerate(beaten_by) if count == 0]
    while front:
        fronts.append(front)
        following = []
        for i in front:
            for j in beats[i]:
                beaten_by[j] -= 1
                if beaten_by[j] == 0:
                    following.append(j)
        front = sorted(following)
    return fronts


def crowding_distances(points: Sequence[Point]) -> list[float]:
    """Per point of one front, the sum over objectives of the gap between its neighbours, in units of the front's range.

    The extremes of each objective are infinitely far (Deb et al. 2002).
    """
    distance = [0.0] * len(points)
    for objective in (0, 1):
        order = sorted(range(len(points)), key=lambda i: points[i][objective])
        values = [points[i][objective] for i in order]
        for end in order[:1] + order[-1:]:
            distance[end] = math.inf
        if values and values[-1] > values[0]:
            for i in range(1, len(order) - 1):
                distance[order[i]] += (values[i + 1] - values[i - 1]) / (values[-1] - values[0])
    return distance


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """Area that `points` dominate within the quadrant of `reference` (largest parameters, lowest worth), exactly.

    Points that do not beat the reference in both objectives add nothing. Unit: parameters times worth.
    """
    limit, floor = reference
    inside = [p for p in points if p[0] < limit and p[1] > floor]
    area = 0.0
    for index in pareto_front(inside):
        params, worth = inside[index]
        area += (limit - params) * (worth - floor)
        floor = worth
    return area
