"""The search stage: the winner on the selection split, and random search with equal budget beside it."""

from __future__ import annotations

import logging
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

from data import Split
from glora.evaluation import Batches, score
from glora.methods import METHODS, Searched
from glora.search import SEARCHES, Candidate, Member, Search, Space
from runner import config as cfg
from runner.build import Preprocess, balanced_cut, device_of, load_trained, open_tracker, split, test_split
from runner.choosing import chosen
from runner.config import REFERENCE, ConfigError, NotSearched
from runner.folder import has_weights, locked, read_best, read_json, run_folder, search_folder, write_json, write_text
from runner.progress import Progress, log_file
from runner.report import draw_search, draw_training
from runner.runtime import PRECISIONS
from runner.schema import TrainConf
from runner.training import train_phase

log = logging.getLogger("glora")


def selection_split(c: TrainConf) -> Split:
    """What a search selects on: val200, cut to `search.val_limit` seeded and class-balanced images."""
    s = test_split(c) if c.protocol.name == REFERENCE else split(c, "val200")
    return balanced_cut(s, c.search.val_limit)


def make_search(c: TrainConf, name: str, space: Space, fitness: Any) -> Search:
    """The search called `name` with the budget, limits and settings of the config."""
    kind = SEARCHES[name]
    known = {f.name for f in fields(kind)}
    settings = {k: v for k, v in vars(c.search).items() if k in known}
    return kind(space, fitness, **{**settings, "max_params": cfg.search_limit(c)})


def search(c: TrainConf) -> Path:
    """Find the winner and, where the method asks for it, retrain it; returns the folder of the search."""
    folder = find(c)
    if cfg.retrained(c):
        retrain(c, folder)
    return folder


def retrain(c: TrainConf, folder: Path) -> None:
    """Train the winner with fresh modules on the protocol's final split, into <search folder>/retrained."""
    run, home, file = run_folder(c), folder / "retrained", "weights.safetensors"
    with locked(run), log_file(run / "search.log"):
        if has_weights(home / file):
            log.info("%s is finished, nothing to do", home)
            return
        training = cfg.retraining(chosen(c, run), read_best(folder)["subnet"])
        log.info("retraining the winner %s", training.method.options["subnet"])
        write_json(home / "config.json", cfg.identity(training))
        train_phase(training, home, cfg.final_split(c), file, validate=c.protocol.name != "clean_1000", owner=c)
        draw_training(home)


def find(c: TrainConf) -> Path:
    """Evolve over the trained supernet, and search at random with equal budget beside it; returns the folder."""
    if not cfg.searched(c):
        known = [n for n, m in METHODS.items() if m.searches(m.options())]
        why = "trains the one subnet it was given" if c.method.name in known else "has no subnets to search"
        raise NotSearched(f"method={c.method.name} {why}; search.py is for method={' or method='.join(known)}")
    run = run_folder(c)
    folder = search_folder(c, run)
    with locked(run), log_file(run / "search.log"):
        if (folder / "best.json").exists():
            log.info("%s is finished, nothing to do", folder)
            return folder
        c = chosen(c, run)
        method = load_trained(c, run, final=False)
        assert isinstance(method, Searched)
        data, space, precision = selection_split(c), method.space, PRECISIONS[c.precision]
        # All candidates share one model to write into and one set of prepared batches.
        evaluator, batches = method.evaluator(), Batches(data.images, Preprocess(c), device_of(c), keep=True)

        def fitness(subnet: Member) -> float:
            return score(evaluator.write(subnet), batches, data.labels, precision)

        log.info(space.describe())
        try:
            searches = {n: make_search(c, n, space, fitness) for n in dict.fromkeys((c.search.name, "random"))}
        except ValueError as error:
            raise ConfigError(f"{error}; set search.max_params or search.min_params") from error
        with open_tracker(c, folder, "search") as tracker:
            winners = {n: _run_search(s, folder / f"{n}.json", n) for n, s in searches.items()}
            rows = [(n, k.generation, k.params, k.accuracy) for n, s in searches.items() for k in s.candidates]
            tracker.log_table("candidates", ("search", "generation", "params", "val_accuracy"), rows)
            tracker.summary({f"{n}_{k}": getattr(w, k) for n, w in winners.items() for k in ("accuracy", "params")})
        for name, best in winners.items():
            write_text(folder / f"subnet_{name}.json", space.to_json(best.subnet))
        best = winners[c.search.name]
        rand = winners["random"]
        write_json(
            folder / "best.json",
            {
                "search": c.search.name,
                "val_accuracy": best.accuracy,
                "params": best.params,
                "images": len(data.labels),
                "random_search": {"val": rand.accuracy, "params": rand.params},
                **({"subnet": str(best.subnet)} if method.retrained else {}),
            },
        )
        draw_search(folder, space, c.search.name)
    return folder


def _run_search(s: Search, path: Path, name: str) -> Candidate:
    if path.exists():
        try:
            s.load_state(read_json(path, "generation", "candidates"))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{path} is no state of this search ({error!r}); delete it to search anew") from error
        log.info("%s search: resuming after generation %d", name, s.generation)
    # Beside the search's own file, which is the same whether or not the search was interrupted.
    clock = path.with_name(f"seconds_{name}.json")
    spent = read_json(clock)["seconds"] if clock.exists() else 0.0
    with Progress(f"{name} search", s.generations, s.generation) as progress:
        while not s.done:
            began = time.perf_counter()
            s.step()
            spent += time.perf_counter() - began
            write_json(path, s.state())
            write_json(clock, {"seconds": round(spent, 3)})
            best = s.best()
            words = f"best {100 * best.accuracy:.1f}% with {best.params:,} parameters"
            progress.step(words)
            log.info("%s search: generation %d/%d, %d evaluated, %s", name, s.generation, s.generations,
                     len(s.candidates), words)  # fmt: skip
    return s.best()
