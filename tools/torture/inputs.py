"""Hostile inputs: each is one seed, which says what is damaged and how."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from tools.torture import hostile_data, hostile_files, hostile_overrides
from tools.torture.sandboxes import Sandboxes
from tools.torture.verdicts import Verdict, rerun

SHARES = {"overrides": 8, "images": 34, "lists": 26, "documents": 14, "weights": 8, "checkpoints": 6, "links": 4}
"""Of a hundred inputs; the dear ones are few."""

Case = Callable[[Sandboxes, int], tuple[str, str, str]]


CHEAP = ("images", "lists")


def names(first: int, count: int, dear: int | None = None) -> list[str]:
    """`count` seeds from `first` on; with `dear`, those of the groups that are not cheap after so many are left out."""
    found: list[str] = []
    for seed in itertools.count(first):
        if len(found) == count:
            break
        if group_of(seed) not in CHEAP and dear is not None:
            if dear == 0:
                continue
            dear -= 1
        found.append(str(seed))
    return found


def group_of(seed: int) -> str:
    """What a seed attacks."""
    return random.Random(f"group {seed}").choices(list(SHARES), list(SHARES.values()))[0]


def case(boxes: Sandboxes, name: str) -> Verdict:
    """The verdict on the input of a seed."""
    seed, group = int(name), group_of(int(name))
    if group == "overrides":
        done, kind, detail = hostile_overrides.case(boxes, seed)
    elif group in ("images", "lists"):
        done, kind, detail = hostile_data.case(boxes, seed, group == "lists")
    else:
        done, kind, detail = hostile_files.case(boxes, seed, group)
    return Verdict("inputs", group, done, kind, detail, rerun("inputs", name))
