"""The finished supernet that a study looks into, and subnets of it that are always the same."""

from __future__ import annotations

import random
from collections.abc import Hashable

from glora.methods import Searched
from glora.search import Member, Space
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.stages.model import load_trained, searched
from runner.stages.tune import chosen

DRAWS = 200
"""How many draws a distinct subnet within the limit may take on average."""


def held_out_supernet(run: Run, purpose: str) -> Searched[Hashable]:
    """The trained supernet of a run that has not seen val200; with `hparams=val_grid` at the point that was chosen.

    Args:
        run: the supernet's.
        purpose: what its subnets are wanted for, as in "has no subnets to choose from".

    Raises:
        ConfigError: without a finished supernet, for methods without subnets, and where val200 was trained on.
    """
    if not run.method.searched:
        raise ConfigError(f"method={run.method.name} has no subnets {purpose}; use method=glora or noah")
    if not run.protocol.holds_out_val200:
        raise ConfigError(f"protocol={run.protocol.name} trains the supernet on val200; use protocol=clean")
    return searched(load_trained(chosen(run), run.directory))


def draw(space: Space[Member], count: int, purpose: str, limit: int | None = None) -> list[Member]:
    """The first `count` distinct subnets within the limit of a fixed sequence of uniform draws.

    Args:
        space: of the supernet.
        count: how many.
        purpose: names the sequence.
        limit: parameters at most; None: any number.

    Raises:
        ConfigError: if too few are found.
    """
    found: dict[Member, None] = {}
    for i in range(DRAWS * count):
        subnet = space.sample(random.Random(f"{purpose}-{i}"))
        if limit is None or space.params(subnet) <= limit:
            found[subnet] = None
        if len(found) == count:
            return list(found)
    within, way = "", ""
    if limit is not None:
        within, way = f" of at most {limit:,} parameters", ", or raise search.max_params or search.max_share"
    raise ConfigError(f"subnets={count}: {DRAWS * count} draws gave {len(found)} distinct ones{within}; "
                      f"ask for no more than that{way}")  # fmt: skip
