"""From the `search` keys to a search: what every search has, and the settings of the one that was named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from glora.search import SEARCHES
from glora.train import Recipe
from runner.config.fields import build, choice, number
from runner.config.identity import search_directory
from runner.config.protocol import Protocol
from runner.config.run import MethodChoice, SearchChoice

WINNERS = ("subnet", "soup", "greedy_soup", "mean")


@dataclass(frozen=True)
class StageSettings:
    """What the search stage takes whichever the search.

    Attributes:
        val_limit: selection images at most.
        max_share: the largest subnet allowed, as a share of the parameters of the largest there is.
        winner: the form in which candidates are handed over (`runner.stages.winner`).
        soup_size: candidates that a soup averages, or that a greedy one tries.
        finetune_epochs: how long the winner trains on by itself, from the supernet's weights; 0: not at all.
        finetune_lr: its learning rate; None: the supernet's.
    """

    name: str
    val_limit: int = number(1000, low=1)
    retrain_epochs: int | None = number(None, low=1)
    retrain_lr: float | None = number(None, above=0)
    max_share: float | None = number(None, above=0, below=1)
    winner: str = choice("subnet", WINNERS)
    soup_size: int = number(10, low=1)
    finetune_epochs: int = number(0, low=0)
    finetune_lr: float | None = number(None, above=0)


@dataclass(frozen=True)
class SearchSettings:
    """The checked keys of the `search` group."""

    stage: StageSettings
    own: Mapping[str, Any]

    def choice(
        self, run: Path, protocol: Protocol, family: str | None, recipe: Recipe, retrain: Recipe | None
    ) -> SearchChoice:
        """The search of one run: its limits decided, its directory named."""
        stage, tuning = self.stage, None
        if stage.finetune_epochs:
            tuning = replace(
                recipe,
                epochs=stage.finetune_epochs,
                lr=stage.finetune_lr or recipe.lr,
                max_steps=None,
                sampling="uniform",
                draws=1,
                distill=False,
                ema=None,
            )  # fmt: skip  (a winner is one subnet)
        own, name = dict(self.own), self.stage.name
        if own["max_params"] is None:
            own["max_params"] = protocol.max_params.get(family or "")
        named = own | {"val_limit": self.stage.val_limit}
        if retrain is not None:
            named |= {"retrain_epochs": retrain.epochs, "retrain_lr": retrain.lr}
        named |= {k: getattr(stage, k) for k in ("max_share", "winner", "finetune_epochs")}
        named |= {"soup_size": stage.soup_size} if "soup" in stage.winner else {}
        named |= {"finetune_lr": tuning.lr} if tuning is not None else {}
        directory = search_directory(run, name, named)
        return SearchChoice(
            name, SEARCHES[name], own, stage.val_limit, directory, retrain,
            stage.winner, stage.soup_size, stage.max_share, tuning,
        )  # fmt: skip


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
    if not problems:
        problems = list(_winner_problems(stage, method))
    if problems:
        return None, problems
    return SearchSettings(stage, vars(checked)), []


def _winner_problems(stage: StageSettings, method: MethodChoice | None) -> Iterator[str]:
    if stage.winner != "subnet" and stage.finetune_epochs:
        yield f"search.finetune_epochs={stage.finetune_epochs} trains one subnet on; use search.winner=subnet"
    if method is None or not method.retrained:
        return
    if stage.winner != "subnet":
        yield f"search.winner={stage.winner}: the subnets of method={method.name} are no gates that can be averaged"
    if stage.finetune_epochs:
        yield f"search.finetune_epochs: method={method.name} trains its winner anew; set search.retrain_epochs"
