"""What a search hands over: its best candidate or an average of candidates, as it is or trained on by itself."""

from __future__ import annotations

import logging
from collections.abc import Hashable
from dataclasses import dataclass, replace

from glora.methods import Method
from glora.search import Search, Space
from glora.search.selection import Fitness, Measured
from glora.winner import greedy_soup, mean, soup
from runner.config.protocol import WEIGHTS
from runner.config.run import Run, SearchChoice
from runner.report.show import draw_training
from runner.rundir.files import has_weights, locked, read_weights, read_winner, write_json
from runner.stages.model import build, load_trained, searched
from runner.stages.train import train_phase
from runner.stages.tune import chosen
from runner.tracking.progress import log_file

log = logging.getLogger(f"glora.{__name__}")
TUNED = "tuned"
"""The directory of the tuning of a winner, in that of its search."""


@dataclass(frozen=True)
class Winner:
    """A subnet or soup, what the selection images say of it, and the candidates that it averages."""

    choice: Hashable
    measured: Measured
    params: int
    members: int


def form(choice: SearchChoice, search: Search[Hashable], space: Space[Hashable], fitness: Fitness[Hashable]) -> Winner:
    """The winner in the form that `search.winner` names; a soup costs a few evaluations more."""
    ranked, best = search.ranked(), search.best()
    if choice.winner == "subnet":
        return Winner(best.subnet, Measured(best.accuracy, best.loss), best.params, 1)
    if choice.winner == "greedy_soup":
        found = greedy_soup(space, ranked[: choice.soup_size], fitness, search.objective, choice.max_params)
        return Winner(found.soup, found.measured, space.params(found.soup), len(found.members))
    mixed = mean(space) if choice.winner == "mean" else soup(space, ranked, choice.soup_size)
    members = 0 if choice.winner == "mean" else min(choice.soup_size, len(ranked))
    return Winner(mixed, Measured.of(fitness(mixed)), space.params(mixed), members)


def tuned(run: Run, search: SearchChoice) -> bool:
    """Whether the winner's tuning is finished."""
    return has_weights(search.directory / TUNED / WEIGHTS)


def tune_winner(run: Run, search: SearchChoice) -> None:
    """Train the winner on from the supernet's weights, into <search directory>/tuned; resumes what was killed.

    Its choices stay as they are, and what it does not use is gone. It sees the protocol's final images alone.
    """
    if search.tuning is None:
        return
    directory = search.directory / TUNED
    with locked(run.directory), log_file(run.directory / "search.log"):
        if tuned(run, search):
            log.info("%s is finished, nothing to do", directory)
            return
        point = chosen(run)
        method = load_trained(point, run.directory, run.protocol.weights_file(final=True))
        _keep(method, search)
        log.info("tuning the winner, %s parameters", f"{method.params():,}")
        write_json(directory / "config.json", {**run.identity, "tuning": vars(search.tuning)})
        training = replace(point, recipe=search.tuning, search=None)
        train_phase(training, directory, run.protocol.phase(run.protocol.final, WEIGHTS), owner=run, method=method)
        draw_training(directory)


def load_tuned(run: Run, search: SearchChoice) -> Method:
    """The method that holds the tuned winner alone. Raises ConfigError if its weights are damaged."""
    weights = read_weights(search.directory / TUNED / WEIGHTS)
    method = build(run)
    _keep(method, search)
    method.load_state_dict(weights)
    method.model.eval()
    return method


def _keep(method: Method, search: SearchChoice) -> None:
    supernet = searched(method)
    supernet.keep(read_winner(supernet.space, search.directory))
