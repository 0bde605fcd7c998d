"""What a sweep runs over, from the registries: `${suite:mini}` in a YAML is a suite's tasks, `${methods:table1}` the
methods of a table; both as the comma-separated text that Hydra's sweeper takes.
"""

from __future__ import annotations

from omegaconf import OmegaConf

from data import SUITES
from glora.methods import ordered_methods


def suite(name: str) -> str:
    """The tasks of a suite, comma-separated.

    Raises:
        ValueError: for an unknown one.
    """
    if name not in SUITES:
        raise ValueError(f"suite {name!r} is not one of {', '.join(SUITES)}")
    return ",".join(SUITES[name])


def methods(table: str) -> str:
    """The methods of a table of the paper, or "all": files of configs/method."""
    if table == "all":
        return ",".join(m.name for m in ordered_methods())
    return ",".join(row for m in ordered_methods() for row in m.paper_rows.get(table, ()))


def register_resolvers() -> None:
    """Make both known to OmegaConf."""
    OmegaConf.register_new_resolver("suite", suite, replace=True)
    OmegaConf.register_new_resolver("methods", methods, replace=True)
