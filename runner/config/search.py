"""From the `search` keys to a search: what every search has, and the settings of the one that was named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from glora.search import SEARCHES
from glora.train import Recipe
from runner.config.fields import build, number
from runner.config.identity import search_directory
from runner.config.protocol import Protocol
from runner.config.run import MethodChoice, SearchChoice


@dataclass(frozen=True)
class StageSettings:
    """What the search stage takes whichever the search; `val_limit`: selection images at most."""

    name: str
    val_limit: int = number(1000, low=1)
    retrain_epochs: int | None = number(None, low=1)
    retrain_lr: float | None = number(None, above=0)


@dataclass(frozen=True)
class SearchSettings:
    """The checked keys of the `search` group."""

    stage: StageSettings
    own: Mapping[str, Any]

    def choice(self, run: Path, protocol: Protocol, family: str | None, retrain: Recipe | None) -> SearchChoice:
        """The search of one run: its limits decided, its directory named."""
        own, name = dict(self.own), self.stage.name
        if own["max_params"] is None:
            own["max_params"] = protocol.max_params.get(family or "")
        named = own | {"val_limit": self.stage.val_limit}
        if retrain is not None:
            named |= {"retrain_epochs": retrain.epochs, "retrain_lr": retrain.lr}
        directory = search_directory(run, name, named)
        return SearchChoice(name, SEARCHES[name], own, self.stage.val_limit, directory, retrain)


def read_search(given: Mapping[str, Any], method: MethodChoice | None) -> tuple[SearchSettings | None, list[str]]:
    """The settings, and what is wrong with them; None where that leaves no search."""
    name = given.get("name")
    if name not in SEARCHES:
        return None, [f"search={name} is not one of {', '.join(SEARCHES)}"]
    shared = {f.name for f in fields(StageSettings)}
    settings = SEARCHES[name].settings()
    problems = []
    try:
        stage = build(StageSettings, {k: v for k, v in given.items() if k in shared}, "search.")
    except ValueError as error:
        problems += str(error).splitlines()
    own = {k: v for k, v in given.items() if k not in shared}
    try:
        checked: object = build(settings, own, "search.")
    except ValueError as error:
        problems += str(error).splitlines()
    typed = [f"search.{k}" for k in ("retrain_epochs", "retrain_lr") if given.get(k) is not None]
    if typed and method is not None and not method.retrained:
        problems.append(f"{', '.join(typed)}: only the winner of a search whose method retrains it has these "
                        "(method=noah)")  # fmt: skip
    if problems:
        return None, problems
    return SearchSettings(stage, vars(checked)), []
