"""What is handed over: the best candidate, an average or all of the space, as it is or trained on by itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Hashable
from dataclasses import dataclass, replace

from data.files import write_text
from glora.methods import Method
from glora.search import Search, Space
from glora.search.selection import Fitness, Measured
from glora.winner import greedy_soup, mean, soup
from runner.config.errors import ConfigError
from runner.config.protocol import WEIGHTS
from runner.config.run import Run, SearchChoice, alone
from runner.report.figure import is_drawn
from runner.report.show import GATES, draw_gates
from runner.rundir.files import locked, write_json
from runner.rundir.records import WINNER, read_winner
from runner.rundir.weights import has_weights, read_weights
from runner.stages.model import build, load_trained, searched, with_weights
from runner.stages.train import finished, train_phase
from runner.stages.tune import chosen
from runner.tracking.progress import log_file

log = logging.getLogger(f"glora.{__name__}")
TUNED, SCRATCH = "tuned", "scratch"
"""The directories of a winner's tuning and of its training from the initialization, in that of its search."""


@dataclass(frozen=True)
class Winner:
    """A subnet or soup, what the selection images say of it, and the candidates that it averages."""

    choice: Hashable
    measured: Measured
    params: int
    members: int


def form(choice: SearchChoice, search: Search[Hashable], space: Space[Hashable], fitness: Fitness[Hashable]) -> Winner:
    """What a finished search gives, in the form that `search.winner` names; a soup costs a few evaluations more."""
    ranked, best = search.ranked(), search.best()
    if choice.winner == "subnet":
        return Winner(best.subnet, best.measured, best.params, 1)
    if choice.winner == "greedy_soup":
        found = greedy_soup(space, ranked[: choice.soup_size], fitness, search.objective, search.max_params)
        return Winner(found.soup, found.measured, space.params(found.soup), len(found.members))
    mixed = soup(space, ranked, choice.soup_size)
    return Winner(mixed, Measured.of(fitness(mixed)), space.params(mixed), min(choice.soup_size, len(ranked)))


def unsearched(choice: SearchChoice, space: Space[Hashable], fitness: Fitness[Hashable]) -> Winner:
    """The winner that `search.winner` names where no search finds it; one evaluation says what it is worth.

    Raises:
        FloatingPointError: if its logits are not finite.
    """
    whole: Hashable = mean(space) if choice.winner == "mean" else space.largest
    measured = Measured.of(fitness(whole))
    if measured.loss is not None and math.isnan(measured.loss):
        raise FloatingPointError(f"{choice.directory}: search.winner={choice.winner} has logits that are NaN or "
                                 "infinite: lower optimizer.lr and train again")  # fmt: skip
    return Winner(whole, measured, space.params(whole), 0)


def tunings(search: SearchChoice) -> tuple[str, ...]:
    """The trainings of the winner that the search asks for, by their directories."""
    return () if not search.finetune_epochs else (TUNED, SCRATCH) if search.scratch else (TUNED,)


def require_tuned(search: SearchChoice) -> None:
    """Raise ConfigError unless all trainings of the winner are finished."""
    if not all(has_weights(search.directory / name / WEIGHTS) for name in tunings(search)):
        raise ConfigError(f"the winner in {search.directory} is not trained yet; run search.py with the same overrides "
                          "first")  # fmt: skip


def tune_winner(run: Run, search: SearchChoice) -> None:
    """Train the winner on from the supernet's weights, into <search directory>/tuned; resumes what was killed.

    Its choices stay as they are, and what it does not use is gone. It sees the protocol's final images alone.
    With `SearchChoice.scratch` the same from the winner's initialization, into <search directory>/scratch. Gates that
    were learned are written beside the weights, as `WINNER` and a picture.
    """
    for name in tunings(search):
        with locked(run.directory), log_file(run.directory / "search.log"):
            _train_winner(run, search, name)


def _train_winner(run: Run, search: SearchChoice, name: str) -> None:
    directory, phase = search.directory / name, run.protocol.phase(run.protocol.final, WEIGHTS)
    point = chosen(run)
    if not finished(directory, phase):
        _train(run, point, search, name)
    if search.learn_gates and not ((directory / WINNER).exists() and is_drawn(directory / GATES)):
        trained = searched(load_tuned(point, search, name))
        write_text(directory / WINNER, trained.space.to_json(trained.kept()))
        draw_gates(directory, trained.space, trained.kept())


def _train(run: Run, point: Run, search: SearchChoice, name: str) -> None:
    directory, phase = search.directory / name, run.protocol.phase(run.protocol.final, WEIGHTS)
    inherited = run.protocol.weights_file(final=True)
    method = build(point) if name == SCRATCH else load_trained(point, run.directory, inherited)
    winner = _keep(method, search)
    start = "its initialization" if name == SCRATCH else "the supernet's weights"
    log.info("training the winner from %s", start)
    recipe = alone(point.recipe, search.finetune_epochs, search.finetune_lr)
    write_json(directory / "config.json", {**run.identity, name: vars(recipe)})
    training = replace(point, recipe=recipe, search=None)
    train_phase(training, directory, phase, owner=run, method=method, winner=winner)


def load_tuned(run: Run, search: SearchChoice, name: str = TUNED) -> Method:
    """The method that holds the winner alone as `name` left it. Raises ConfigError if its weights are damaged."""
    path = search.directory / name / WEIGHTS
    weights = read_weights(path)
    method = build(run)
    _keep(method, search)
    return with_weights(method, weights, path)


def _keep(method: Method, search: SearchChoice) -> tuple[Hashable, bool]:
    supernet = searched(method)
    winner = read_winner(supernet.space, search.directory), search.learn_gates
    supernet.keep(*winner)
    return winner
