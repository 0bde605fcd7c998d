"""The search stage: the winner on the selection split, and random search with equal budget beside it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Hashable, Sequence
from pathlib import Path
from typing import Any

from data import Split
from data.files import write_text
from glora.evaluation import Batches, measure
from glora.methods import METHODS, Searched
from glora.methods.base import Evaluator
from glora.search import SEARCHES, Candidate, Measured, NoSubnet, Search, Space, State, sealed, selection_noise
from glora.state import digest
from runner import torchrun
from runner.config.errors import ConfigError, NotSearched
from runner.config.protocol import WEIGHTS
from runner.config.run import Run, SearchChoice
from runner.report.show import draw_search, search_drawn
from runner.rundir.files import locked, write_json
from runner.rundir.records import WINNER, Asked, Clock, clock_file, read, read_best
from runner.stages.inputs import Preprocess, balanced_cut, selection_split
from runner.stages.model import load_trained, searched, trained_file
from runner.stages.train import finished, train_phase
from runner.stages.tune import chosen
from runner.stages.winner import Winner, form, tune_winner, unsearched
from runner.tracking.of_run import one_page, open_tracker
from runner.tracking.progress import Progress, log_file
from runner.tracking.tracker import Tracker

log = logging.getLogger(f"glora.{__name__}")

BASELINE = "random"
"""The search that runs beside every other with the same budget."""


def search(run: Run) -> Path:
    """Find the winner and, where the method asks for it, retrain it; returns the directory of the search."""
    with one_page(run):
        directory = find(run)
        if run.method.retrained:
            retrain(run)
        tune_winner(run, search_choice(run))
    return directory


def search_choice(run: Run) -> SearchChoice:
    """The run's search. Raises NotSearched for a method without subnets to search."""
    if run.search is None:
        known = sorted(n for n, m in METHODS.items() if m.searches(m.options()))
        why = "trains the one subnet it was given" if run.method.name in known else "has no subnets to search"
        raise NotSearched(f"method={run.method.name} {why}; search.py is for method={' or method='.join(known)}")
    return run.search


def retrain(run: Run) -> None:
    """Train the winner with fresh modules on the protocol's final images, into <search directory>/retrained."""
    directory = search_choice(run).directory
    retrained = directory / "retrained"
    with locked(run.directory), log_file(run.directory / "search.log"):
        phase = run.protocol.phase(run.protocol.final, WEIGHTS)
        if finished(retrained, phase):
            return
        training = chosen(run).retraining(read_best(directory).subnet)
        log.info("retraining the winner %s", training.method.options["subnet"])
        write_json(retrained / "config.json", training.identity)
        train_phase(training, retrained, phase, owner=run)


class Fitness:
    """What `measure` says of a subnet on the selection split, once however many searches propose it."""

    def __init__(self, run: Run, evaluator: Evaluator[Hashable], data: Split) -> None:
        self.known: dict[Hashable, Measured] = {}
        self._evaluator, self._labels, self.images = evaluator, data.labels, len(data.labels)
        # All candidates share one model to write into and one set of prepared batches.
        self._batches = Batches(data.images, Preprocess(run), run.compute.device, keep=True)
        self._dtype = run.compute.dtype

    def __call__(self, subnet: Hashable) -> Measured:
        """With the weights that the evaluator has."""
        if subnet not in self.known:
            model = self._evaluator.write(subnet)
            self.known[subnet] = measure(model, self._batches, self._labels, self._dtype)
        return self.known[subnet]

    def ahead(self, subnets: Sequence[Hashable]) -> None:
        """Measure what will be asked for, shared out over the ranks; one process does so when it is asked."""
        unknown = [subnet for subnet in subnets if subnet not in self.known]
        if torchrun.size() > 1 and unknown:
            torchrun.order("measure", unknown)
            self.measure_share(unknown)

    def measure_share(self, subnets: Sequence[Hashable]) -> None:
        """On every rank with the same subnets: each measures its share, and all know the figures then."""
        share = subnets[torchrun.rank() :: torchrun.size()]
        self.known |= torchrun.gathered({subnet: self(subnet) for subnet in share})


def fitness_of(run: Run, method: Searched[Hashable]) -> Fitness:
    """What the run's search goes by, with the weights that the method has now."""
    return Fitness(run, method.evaluator(), balanced_cut(selection_split(run), search_choice(run).selection_images))


def size_limit(choice: SearchChoice, space: Space[Hashable]) -> int | None:
    """Parameters at most, by `search.max_params` and `search.max_share`; None: all that there are."""
    limits = [] if choice.max_params is None else [choice.max_params]
    if choice.max_share is not None:
        limits.append(int(choice.max_share * space.params_range[1]))
    return min(limits, default=None)


def make_search(name: str, choice: SearchChoice, space: Space[Hashable], fitness: Fitness) -> Search[Hashable]:
    """The search called `name` with the budget and limits of the chosen one, and its other settings where it has them.

    Raises:
        ConfigError: if no subnet lies within the limits, or the search refuses its settings.
    """
    settings = {**choice.settings, "max_params": size_limit(choice, space)}
    try:
        return SEARCHES[name].with_settings(space, fitness, settings)
    except NoSubnet as error:
        raise _widened(error) from error
    except ValueError as error:  # settings that do not go together
        raise ConfigError(str(error)) from error


def _widened(error: NoSubnet) -> ConfigError:
    return ConfigError(f"{error}; widen the limits: search.max_params, search.max_share or search.min_params")


def find(run: Run) -> Path:
    """Find the winner of the trained supernet, by a search or as a function of the space; returns the directory."""
    choice = search_choice(run)
    directory = choice.directory
    if not (directory / "best.json").exists():
        trained_file(run.directory)  # before anything is written there
    with locked(run.directory), log_file(run.directory / "search.log"):
        write_json(directory / "settings.json", choice.described())
        if (directory / "best.json").exists():
            log.info("%s is finished, nothing to do", directory)
            _complete(run, directory)
            return directory
        run = chosen(run)
        method = searched(load_trained(run, run.directory))
        weights = digest(method.state_dict())
        fitness, space = fitness_of(run, method), method.space
        log.info(space.describe())
        if choice.searches:
            handed, found = _candidates(run, method, fitness, weights)
        else:
            handed, found = unsearched(choice, space, fitness), {}
            with open_tracker(run, directory) as tracker:
                figures = {"accuracy": handed.measured.accuracy, "params": handed.params}
                tracker.summary({f"{choice.winner}_{k}": figure for k, figure in figures.items()})
            log.info("search.winner=%s: %.1f%% on %d images with %s parameters; nothing is searched, and settings of a "
                     "search do not count", choice.winner, 100 * handed.measured.accuracy, fitness.images,
                     f"{handed.params:,}")  # fmt: skip
        if choice.winner != "subnet":
            write_text(directory / WINNER, space.to_json(handed.choice))
        write_json(
            directory / "best.json",
            {
                "search": choice.name,
                "winner": choice.winner,
                "members": handed.members,
                **{f"val_{name}": getattr(handed.measured, name) for name in Measured._fields},
                "params": handed.params,
                "images": fitness.images,
                "weights": weights,
                **found,
                **({"subnet": str(handed.choice)} if method.retrained else {}),
            },
        )
        draw_search(directory, space)
    return directory


def _candidates(run: Run, method: Searched[Hashable], fitness: Fitness, weights: str) -> tuple[Winner, dict[str, Any]]:
    """Search, and at random with equal budget beside it: what is handed over, and what best.json says of the search."""
    torchrun.order("search", run)
    torchrun.give(method.state_dict)
    choice, space = search_choice(run), method.space
    directory = choice.directory
    searches = {n: make_search(n, choice, space, fitness) for n in dict.fromkeys((choice.name, BASELINE))}
    _take_over(choice, weights, searches)
    with open_tracker(run, directory) as tracker:
        for name, s in searches.items():
            _load(s, directory / f"{name}.json", name)
            fitness.known |= {c.subnet: c.measured for c in s.candidates if None not in c.measured}
        tracker.restore([row for n, s in searches.items() for row in _curve(s, n)], "generation")
        winners = {n: _run_search(s, fitness, directory / f"{n}.json", tracker) for n, s in searches.items()}
        rows = [(n, k.generation, k.params, *k.measured) for n, s in searches.items() for k in s.candidates]
        tracker.log_table(
            "candidates", ("search", "generation", "params", *(f"val_{m}" for m in Measured._fields)), rows
        )
        tracker.summary({f"{n}_{k}": getattr(w, k) for n, w in winners.items() for k in ("accuracy", "params")})
        handed = form(choice, searches[choice.name], space, fitness)
    for name, winner in winners.items():
        write_text(directory / f"subnet_{name}.json", space.to_json(winner.subnet))
    best, baseline = winners[choice.name], winners[BASELINE]
    noise = selection_noise(searches[choice.name].candidates, best, fitness.images)
    percent, error = 100 * best.accuracy, 100 * noise.standard_error
    log.info("%s: %.1f%% on %d images, standard error %.1f points, within which %d other candidates lie",
             choice.name, percent, fitness.images, error, noise.within)  # fmt: skip
    random_search = {"val": baseline.accuracy, "params": baseline.params}
    objective = searches[choice.name].objective
    return handed, {"fitness": objective, "noise": noise._asdict(), "random_search": random_search}


def _complete(run: Run, directory: Path) -> None:
    """Draw what the process that finished the search did not come to."""
    if not search_drawn(directory):
        space = searched(load_trained(chosen(run), run.directory)).space
        draw_search(directory, space)


def _take_over(choice: SearchChoice, weights: str, names: Collection[str]) -> None:
    """Begin where a finished search ended that differs only in what becomes of its winner, with the time it took.

    One with other weights, or with a file that cannot be read, is passed over: this search is made anew then.
    """
    directory = choice.directory
    missing = [name for name in names if not (directory / f"{name}.json").exists()]
    if not missing:
        return
    for other in sorted(best.parent for best in directory.parent.glob("*/best.json")):
        try:
            asked = read(other / "settings.json", Asked).model_dump()
            if asked != choice.asked or read_best(other).weights != weights:
                continue
            for name in missing:
                read(other / f"{name}.json", State)
        except ConfigError:
            continue
        for name in missing:
            # The clock first: beside a state that is there, it is not taken over again.
            for kept in (clock_file(other, name), other / f"{name}.json"):
                if kept.exists():
                    write_text(directory / kept.name, kept.read_text())
        log.info("the search of %s is this one but for its winner: taken over", other)
        return


def _load(s: Search[Hashable], path: Path, name: str) -> None:
    """Continue from the state of a killed search, if there is one."""
    if not path.exists():
        return
    anew = "delete it to search anew"
    try:
        s.load_state(read(path, State, anew))
    except ValueError as error:
        raise ConfigError(f"{path} is no state of this search: {error}; {anew}") from error
    log.info("%s search: resuming after generation %d", name, s.generation)


def _curve(s: Search[Hashable], name: str, first: int = 0) -> list[dict[str, Any]]:
    """What is logged of the generations that are done, from the `first` of them on; the search beside comes after."""
    after = s.generations if name == BASELINE else 0
    rows = []
    for n in range(first, s.generation):
        best = max(c.accuracy for c in s.candidates if c.generation <= n)
        rows.append({"step": after + n, "generation": n, f"{name}/best_accuracy": best})
    return rows


def _run_search(s: Search[Hashable], fitness: Fitness, path: Path, tracker: Tracker) -> Candidate[Hashable]:
    name = path.stem
    clock = clock_file(path.parent, name)
    spent = read(clock, Clock).seconds if clock.exists() else 0.0
    with Progress(f"{name} search", s.generations, s.generation, "generation") as progress:
        while not s.done:
            began = time.perf_counter()
            try:
                s.step(fitness.ahead)
            except NoSubnet as error:
                raise _widened(error) from error
            spent += time.perf_counter() - began
            write_json(path, sealed(s.state()))
            write_json(clock, {"seconds": round(spent, 3)})
            for row in _curve(s, name, s.generation - 1):
                tracker.log({k: v for k, v in row.items() if k != "step"}, row["step"])
            best = s.best()
            beside = f", {s.needs} {getattr(best, s.needs):.3f}" if s.needs else ""
            figures = f"best {100 * best.accuracy:.1f}%{beside} with {best.params:,} parameters"
            progress.step(figures)
            log.info("%s search: generation %d/%d, %d evaluated, %s", name, s.generation, s.generations,
                     len(s.candidates), figures)  # fmt: skip
    best = s.best()
    if best.loss is not None and math.isnan(best.loss):
        raise FloatingPointError(f"{path.parent}: the best of {len(s.candidates)} candidates of the {name} search has "
                                 "logits that are NaN or infinite: lower optimizer.lr and train again")  # fmt: skip
    return best
