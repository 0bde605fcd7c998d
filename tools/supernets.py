"""The finished supernet that a study looks into."""

from __future__ import annotations

from collections.abc import Hashable

from glora.methods import Searched
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.stages.model import load_trained, searched


def held_out_supernet(run: Run, purpose: str) -> Searched[Hashable]:
    """The trained supernet of a run that has not seen val200.

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
    return searched(load_trained(run, run.directory))
