"""What a method wants chosen for each task, as its file in configs/method declares it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from omegaconf import OmegaConf

from runner.config.overrides import CONFIGS


class Knobs(NamedTuple):
    """The axes of the method's grid with their numbers of values, and what its published values per task set."""

    grid: Mapping[str, int]
    published: tuple[str, ...]


@functools.cache
def knobs_of(method: str) -> Knobs:
    """The knobs of a method; none for one whose file is not in this tree (a plugin's)."""
    file = CONFIGS / "method" / f"{method}.yaml"
    if not file.is_file():
        return Knobs({}, ())
    found = cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(file), resolve=False))
    published = dict.fromkeys(key for values in found.get("published", {}).values() for key in values)
    return Knobs({axis: len(values) for axis, values in found.get("grid", {}).items()}, tuple(published))
