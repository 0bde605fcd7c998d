"""Learning rates on validation images: a form's own, and multiples of it, on the same tasks and one seed.

    python -m tools.rate_study [forms=[lora,noah]] [tasks=[digits,textures]] [factors=[0.3,1,3]] [measure=false]

Forms are those of `tools.winner_study`; other overrides, such as seed= or output_root=, hold for all of them. Each run
lies where the single scripts would leave it, so what is finished is reused and a killed study goes on where it was. No
number here is of a test image. Writes table.md, .csv and .tex to <output_root>/rate_study.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from data import user_path
from runner.cli import launch
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.report.render import to_rich, write_all
from runner.report.result import Record
from runner.report.rows import RATE
from runner.report.tables import Table, known, mean_of, percent
from tools.winner_forms import BASELINES
from tools.winner_study import made, named, read_study, require_known, val

KEYS = {"noah": (RATE, "search.retrain_lr"), "plus": ("search.finetune_lr",)}
"""The overrides that are multiplied of a form; of all others its learning rate."""

Rated = dict[tuple[str, float], dict[str, Record]]
"""By form and rate, the records by task."""


@dataclass
class RatesConf(TrainConf):
    """Which forms, tasks, and multiples of a form's own rate."""

    forms: list[str] = field(default_factory=lambda: [*BASELINES, "plus"])
    tasks: list[str] = field(default_factory=lambda: ["digits", "textures", "shapes_distance"])
    factors: list[float] = field(default_factory=lambda: [0.3, 1.0, 3.0])
    measure: bool = True


OWN = ("forms", "tasks", "factors", "measure", "seed")
FIXED = {"dataset": "tasks=[...]", "method": "forms=[...]", "sweep": "tasks=[...]",
         **dict.fromkeys((RATE, "search.finetune_lr", "search.retrain_lr"), "factors=[...]")}  # fmt: skip
"""Keys that differ between the runs of the study, and what says them."""


def at(form: str, task: str, seed: int, factor: float, overrides: Sequence[str]) -> tuple[float, Run]:
    """The run of a form at a multiple of its own rates, to three digits, and the first of them."""
    own = named(form, task, seed, overrides)
    if factor == 1:
        return own.recipe.lr, own
    retrain = own.search.retrain if own.search is not None else None
    rates = {"search.retrain_lr": retrain.lr} if retrain is not None else {}
    scaled = {key: float(f"{factor * rates.get(key, own.recipe.lr):.3g}") for key in KEYS.get(form, (RATE,))}
    words = [f"{key}={rate:g}" for key, rate in scaled.items()]
    return next(iter(scaled.values())), named(form, task, seed, [*overrides, *words])


def rated(conf: RatesConf, overrides: Sequence[str]) -> Rated:
    """The records of every form and rate: those that are missing are made first, unless `conf.measure` is false.

    Raises:
        ConfigError: for an unknown form or task, or a factor that is none.
    """
    require_known(conf.forms, conf.tasks)
    if not conf.factors or any(not 0 < factor < float("inf") for factor in conf.factors):
        raise ConfigError(f"factors={conf.factors} must be positive numbers, as in factors=[0.3,1,3]")
    found: Rated = {}
    for form in conf.forms:
        for factor in sorted(conf.factors):
            for task in conf.tasks:
                rate, run = at(form, task, conf.seed, factor, overrides)
                record = made(run, conf.measure)
                of_rate = found.setdefault((form, rate), {})
                if record is not None:
                    of_rate[task] = record
    return found


def rate_table(found: Mapping[tuple[str, float], Mapping[str, Record]], tasks: Sequence[str]) -> Table:
    """One row a form and rate: validation accuracy on each task, and their mean."""
    rows: list[list[str]] = []
    means: dict[str, dict[float, float]] = {}
    for (form, rate), records in found.items():
        if not records:
            continue
        values = [val(records[task]) if task in records else None for task in tasks]
        mean = None if None in values else mean_of(known(values))
        if mean is not None:
            means.setdefault(form, {})[rate] = mean
        rows.append([form, f"{rate:g}", *map(percent, values), percent(mean)])
    notes = ["validation accuracy of the measured weights, one seed; Mean: over the tasks, for complete rows"]
    notes += [f"{form}: best at {max(of_rates, key=of_rates.__getitem__):g}" for form, of_rates in means.items()]
    return Table("Learning rates on the selection images: accuracy (%)", ["Form", "Rate", *tasks, "Mean"], rows, notes)


def command(raw: DictConfig, typed: Collection[str]) -> None:
    """Measure what is missing, then show and write the table."""
    conf, shared = read_study(raw, typed, RatesConf, OWN, FIXED)
    found = rated(conf, shared)
    if not any(found.values()):
        raise ConfigError("no run at these rates is finished; leave out measure=false")
    table = rate_table(found, conf.tasks)
    to_rich(table)
    for path in write_all([table], user_path(conf.output_root, "output_root") / "rate_study"):
        print(f"written: {path}")


if __name__ == "__main__":
    launch(command, schema=RatesConf)
