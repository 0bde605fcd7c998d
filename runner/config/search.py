"""From the `search` keys to a search: what every search has, and the settings of the one that was named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from glora.recipe import Recipe
from glora.search import SEARCHES
from runner.config.errors import ConfigError
from runner.config.fields import build, choice, number
from runner.config.identity import search_directory
from runner.config.method_schema import MOST_EPOCHS
from runner.config.protocol import OF_SEARCHES, Protocol
from runner.config.run import UNSEARCHED, MethodChoice, SearchChoice

UPPER = ("max_share", "max_params")
LIMITS = (*UPPER, "min_params")
WINNERS = ("subnet", "soup", "greedy_soup", *UNSEARCHED)


@dataclass(frozen=True)
class StageSettings:
    """What the search stage takes whichever the search.

    Attributes:
        name: of the search.
        val_limit: selection images at most.
        retrain_epochs: how long NOAH's winner trains anew; None: as its recipe says.
        retrain_lr: its learning rate; None: the recipe's.
        max_share: the largest subnet allowed, as a share of the parameters of the largest there is.
        winner: the form in which candidates are handed over (`runner.stages.winner`).
        soup_size: candidates that a soup averages, or that a greedy one tries.
        finetune_epochs: how long the winner trains on by itself, from the supernet's weights; 0: not at all.
        finetune_lr: its learning rate; None: the supernet's.
        learn_gates: the gates of its choices train on too.
        finetune_scratch: train the same subnet as long from its initialization too, a comparator of the inheritance.
        random_subnets: random subnets measured on test beside a winner with inherited weights: 2 or more, or 0.
    """

    name: str
    val_limit: int = number(1000, low=1)
    retrain_epochs: int | None = number(None, low=1, high=MOST_EPOCHS)
    retrain_lr: float | None = number(None, above=0)
    max_share: float | None = number(None, above=0, below=1)
    winner: str = choice("subnet", WINNERS)
    soup_size: int = number(10, low=1, high=100_000)
    finetune_epochs: int = number(0, low=0, high=MOST_EPOCHS)
    finetune_lr: float | None = number(None, above=0)
    finetune_scratch: bool = False
    learn_gates: bool = False
    random_subnets: int = number(20, low=0, high=10_000)


@dataclass(frozen=True)
class SearchSettings:
    """The checked keys of the `search` group."""

    stage: StageSettings
    own: Mapping[str, Any]

    def choice(self, run: Path, protocol: Protocol, family: str | None, retrain: Recipe | None) -> SearchChoice:
        """The search of one run: its limits decided, its directory named."""
        stage = self.stage
        own, name = dict(self.own), self.stage.name
        if (whole := UNSEARCHED.get(stage.winner)) is None:
            if own["max_params"] is None:
                own["max_params"] = protocol.max_params.get(family or "")
        elif stage.max_share is not None or own["max_params"] is not None or own["min_params"]:
            raise ConfigError(f"search.winner={stage.winner} {whole}, and a limit on the subnets does not hold for it; "
                              f"leave out {', '.join(f'search.{k}' for k in LIMITS)}")  # fmt: skip
        made = SearchChoice(
            name, SEARCHES[name], own, stage.val_limit, run, retrain, stage.winner, stage.soup_size, stage.max_share,
            stage.finetune_epochs, stage.finetune_lr, stage.finetune_scratch, stage.learn_gates,
            stage.random_subnets,
        )  # fmt: skip
        return replace(made, directory=directory_of(run, made))


def directory_of(run: Path, search: SearchChoice) -> Path:
    """Where the search lies below its run directory, by all that it was asked for and that decides its result."""
    named = {**(search.settings if search.searches else {}), "val_limit": search.selection_images}
    if search.retrain is not None:
        named |= {"retrain_epochs": search.retrain.epochs, "retrain_lr": search.retrain.lr}
    else:
        named |= {"random_subnets": search.random_subnets}
    named |= {"max_share": search.max_share, "winner": search.winner, "finetune_epochs": search.finetune_epochs,
              "finetune_lr": search.finetune_lr, "finetune_scratch": search.scratch,
              "learn_gates": search.learn_gates}  # fmt: skip
    named |= {"soup_size": search.soup_size} if "soup" in search.winner else {}
    return search_directory(run, search.name if search.searches else search.winner, named)


def read_search(
    values: Mapping[str, Any], method: MethodChoice | None, protocol: Protocol | None
) -> tuple[SearchSettings | None, list[str]]:
    """The settings, and what is wrong with them; None where that leaves no search.

    Args:
        values: the keys of the group.
        method: None where it could not be read.
        protocol: says what is not given; None where it could not be read.
    """
    name = values.get("name")
    if name not in SEARCHES:
        return None, [f"search={name} is not one of {', '.join(SEARCHES)}"]
    shared = {f.name for f in fields(StageSettings)}
    settings = SEARCHES[name].settings()
    problems = []
    try:
        stage = build(StageSettings, {k: v for k, v in values.items() if k in shared}, "search.")
    except ValueError as error:
        problems += str(error).splitlines()
    said = {} if protocol is None else {k: getattr(protocol, k) for k in OF_SEARCHES}
    own = said | {k: v for k, v in values.items() if k not in shared and (v is not None or k not in OF_SEARCHES)}
    try:
        checked: object = build(settings, own, "search.")
    except ValueError as error:
        problems += str(error).splitlines()
    typed = [f"search.{k}" for k in ("retrain_epochs", "retrain_lr") if values.get(k) is not None]
    if typed and method is not None and not method.retrained:
        problems.append(f"{', '.join(typed)}: only the winner of a search whose method retrains it has these "
                        "(method=noah)")  # fmt: skip
    if not problems:
        problems = list(_winner_problems(stage, vars(checked), method))
    if problems:
        return None, problems
    return SearchSettings(stage, vars(checked)), []


def _winner_problems(stage: StageSettings, own: Mapping[str, Any], method: MethodChoice | None) -> Iterator[str]:
    for key in ("finetune_scratch", "learn_gates", "finetune_lr"):
        if getattr(stage, key) and not stage.finetune_epochs:
            yield f"search.{key}={getattr(stage, key)} needs search.finetune_epochs, for as long as it trains"
    if stage.soup_size != StageSettings.soup_size and "soup" not in stage.winner:
        yield f"search.soup_size={stage.soup_size} is for search.winner=soup or greedy_soup"
    if stage.random_subnets == 1:
        yield "search.random_subnets=1 has no spread; type 2 or more, or 0 for none"
    searches = stage.winner not in UNSEARCHED
    if searches and (fitness := own.get("fitness")) != "accuracy" and own.get("ties") == "loss":
        yield (f"search.ties=loss is for ties of accuracy; with search.fitness={fitness} ties go to the accuracy; "
               "type search.fitness=accuracy with it")  # fmt: skip
    if method is None or not method.searched or method.kind.keeps_winner:
        return
    instead = (
        "it trains its winner anew; set search.retrain_epochs" if method.retrained else "its winner stays as it is"
    )
    if stage.winner == "largest":
        if method.retrained:
            yield (f"search.winner=largest is not for method={method.name}, which trains its winner anew; "
                   "method.options.subnet=... trains a given subnet without a supernet")  # fmt: skip
    elif stage.winner != "subnet":
        yield f"search.winner={stage.winner}: the subnets of method={method.name} are no gates that can be averaged"
    if stage.finetune_epochs:
        yield f"search.finetune_epochs is not for method={method.name}: {instead}"
