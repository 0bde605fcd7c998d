"""What makes a searched winner good: every form of GLoRA beside the best baselines, by task and seed, as one table.

    python -m tools.winner_study [tasks=[digits,textures]] [forms=[glora,plus]] [seeds=3] [measure=false]

A form is a list of overrides (`FORMS` in tools/winner_forms.py); other overrides, such as output_root= or device=, hold
for all of them. Each run lies in the directory that train.py, search.py and evaluate.py would give it: what is finished
is reused, and a killed study goes on where it was. Forms that share a supernet train it once, those that share a search
search once. `measure=false` makes the table of what is finished. Writes winner_study.json, table and picture to
<output_root>/winner_study.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data import SUITES, user_path
from runner.cli import launch
from runner.config.errors import ConfigError
from runner.config.fields import number, problems_of
from runner.config.resolve import read_conf, resolve, typed_keys
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.report.differences import difference
from runner.report.figure import attempt
from runner.report.render import to_rich, write_all
from runner.report.result import Record, read_result
from runner.report.tables import MISSING, Table, count, group_means, known, mean_of, mean_sd, percent, tasks_by_group
from runner.rundir.files import write_json
from runner.stages.whole import whole
from tools.winner_forms import BASELINES, COMPARED, FORMS, MINI, SAME_WINNER, compared
from tools.winner_plot import Point, plot

log = logging.getLogger(f"glora.{__name__}")

PLAIN = "glora"


@dataclass
class StudyConf(TrainConf):
    """Which forms on which tasks, with the seeds 0 to `seeds` - 1."""

    tasks: list[str] = field(default_factory=lambda: list(SUITES["mini"]))
    forms: list[str] = field(default_factory=lambda: list(FORMS))
    seeds: int = number(3, low=1)
    measure: bool = True


OWN = ("tasks", "forms", "seeds", "measure")
FIXED = {"dataset": "tasks=[...]", "seed": "seeds=", "method": "forms=[...]", "sweep": "tasks=[...] forms=[...]"}
"""Keys that differ between the runs of the study, and what says them."""
Results = dict[str, list[Record]]
Conf = TypeVar("Conf", bound=TrainConf)


def named(form: str, task: str, seed: int, overrides: Sequence[str]) -> Run:
    """The run of a form; `overrides` win over the form's own.

    Raises:
        ConfigError: under a protocol whose measured weights have seen the selection images, or that selects on test.
    """
    args = [*MINI, *FORMS[form], f"dataset={task}", f"seed={seed}", *overrides]
    run = replace(resolve(compose("train", overrides=args), typed_keys(args)), overrides=tuple(args))
    if not run.protocol.measures_held_out:
        raise ConfigError(f"protocol={run.protocol.name} leaves no val200 that the measured weights have not seen, and "
                          "the study compares on those images; use protocol=clean")  # fmt: skip
    return run


def study(conf: StudyConf, overrides: Sequence[str]) -> Results:
    """The records of every form: those that are missing are made first, unless `conf.measure` is false.

    Raises:
        ConfigError: for an unknown form or task; a run that fails is logged and left out.
    """
    require_known(conf.forms, conf.tasks)
    found: Results = {form: [] for form in conf.forms}
    for seed in range(conf.seeds):
        for task in dict.fromkeys(conf.tasks):  # what is typed twice counts once
            for form in found:
                record = made(named(form, task, seed, overrides), conf.measure)
                found[form] += [] if record is None else [record]
    return found


def made(run: Run, measure: bool) -> Record | None:
    """The record of a run, from its directory if it is finished; with `measure` it is made otherwise.

    None where there is none; one that fails is logged.
    """
    path = run.result_directory / "result.json"
    if path.exists():
        return read_result(path)
    if measure:
        try:
            return whole(run)
        except (ConfigError, FloatingPointError) as error:
            log.warning("%s is left out: %s", " ".join(run.overrides), error)
    return None


def require_known(forms: Collection[str], tasks: Collection[str]) -> None:
    """Raise ConfigError unless these are forms of the study and tasks of the mini suite."""
    unknown = [f"forms: {f} is not one of {', '.join(FORMS)}" for f in forms if f not in FORMS]
    unknown += [f"tasks: {t} is not one of {', '.join(SUITES['mini'])}" for t in tasks if t not in SUITES["mini"]]
    if unknown:
        raise ConfigError("\n".join(unknown))


Reading = Callable[[Record], float | None]


def val(record: Record) -> float | None:
    """The accuracy of the measured weights on the selection images."""
    after = (record[key] for key in ("tuned_val_accuracy", "retrained_val_accuracy") if key in record)
    found: float | None = next(after, record["val_accuracy"])
    return found


def measured(record: Record) -> float | None:
    """The accuracy that a row shows."""
    found: float | None = record["test_accuracy"]
    return found


def accuracies(records: Sequence[Record], reading: Reading = measured) -> dict[str, list[float]]:
    """Accuracies by task, over seeds; records without one are left out."""
    tasks: dict[str, list[float]] = {}
    for record in records:
        value = reading(record)
        if value is not None:
            tasks.setdefault(record["dataset"], []).append(value)
    return tasks


def average(records: Sequence[Record], reading: Reading = measured) -> float | None:
    """The average of the groups' means; None unless every task of the suite is there."""
    means = {task: statistics.fmean(values) for task, values in accuracies(records, reading).items()}
    return group_means(means, tasks_by_group("mini"))[-1]


def study_table(results: Results) -> Table:
    """One row a form: accuracies, differences to plain GLoRA and to the best baseline, parameters and time."""
    tasks = [t for t in SUITES["mini"] if any(r["dataset"] == t for rs in results.values() for r in rs)]
    ranked = [b for b in BASELINES if results.get(b) and average(results[b]) is not None]
    best = max(ranked, key=lambda b: average(results[b]) or 0.0, default=None)
    against = {f"vs {n}": results.get(n, []) for n in dict.fromkeys(filter(None, (PLAIN, best)))}
    header = ["Form", *tasks, "Average", *against, "Val", "Params", "Training (s)", "Search (s)", "Tuning (s)",
              "Runs"]  # fmt: skip
    rows = []
    for form, records in results.items():
        if not records:
            continue
        by_task = accuracies(records)
        versus = [(None if records is other else difference(records, other)) or MISSING for other in against.values()]
        times = [_mean(records, k) for k in ("params", "training_seconds", "search_seconds", "tuning_seconds")]
        rows.append([form, *(mean_sd(by_task.get(t, [])) for t in tasks), percent(average(records)), *versus,
                     percent(average(records, val)), *map(count, times), str(len(records))])  # fmt: skip
    notes = [f"{form}: {_said(form)}" for form, records in results.items() if records]
    notes += [
        "accuracies are test, mean ± sample sd over seeds; Average is that of the groups' means, for complete rows",
        "vs: points, mean over tasks of paired differences (same task and seed), 95 % percentile interval over "
        "resampled tasks",
        "Val: of the measured weights on the selection images, average of groups",
        "times are means over runs; search: without the random search beside it",
    ]
    return Table("Forms of GLoRA on the mini suite: top-1 test accuracy (%)", header, rows, notes)


def _said(form: str) -> str:
    if form in COMPARED:
        return "what the results of {} have as {}".format(*COMPARED[form])
    return " ".join(FORMS[form]) or "the defaults"


def _mean(records: Sequence[Record], key: str) -> float | None:
    return mean_of(known(r.get(key) for r in records))


def _point(records: Sequence[Record]) -> Point | None:
    """Where a row lies in the picture; None unless its average is complete."""
    params, accuracy = _mean(records, "params"), average(records)
    if not params or accuracy is None:
        return None
    seeds = sorted({r["seed"] for r in records})
    averages = known(average([r for r in records if r["seed"] == seed]) for seed in seeds)
    return Point(params, accuracy, statistics.stdev(averages) if len(averages) > 1 else None)


def read_study(
    raw: DictConfig, typed: Collection[str], kind: type[Conf], own: Collection[str], fixed: Mapping[str, str]
) -> tuple[Conf, list[str]]:
    """The config of a study, and the overrides that hold for all of its runs.

    Args:
        raw: what Hydra composed.
        typed: keys of the overrides.
        kind: the study's config.
        own: keys that no run of it has or that it gives to each run itself.
        fixed: keys that it decides, and what to type instead of each.

    Raises:
        ConfigError: for values that are not allowed, and for a typed key of `fixed`.
    """
    conf = read_conf(raw, kind)
    problems = list(problems_of(conf))
    problems += [f"{key}= is the study's own; type {instead}" for key, instead in fixed.items() if key in typed]
    if problems:
        raise ConfigError("\n".join(problems))
    return conf, [w for w in HydraConfig.get().overrides.task if w.partition("=")[0].lstrip("+") not in own]


def command(raw: DictConfig, typed: Collection[str]) -> None:
    """Measure what is missing, then show and write the table."""
    conf, shared = read_study(raw, typed, StudyConf, OWN, FIXED)
    results = study(conf, shared)
    if not any(results.values()):
        raise ConfigError("no run of these forms is finished; leave out measure=false")
    directory = user_path(conf.output_root, "output_root") / "winner_study"
    write_json(directory / "winner_study.json", {"forms": {f: list(FORMS[f]) for f in results}, "records": results})
    shown = compared(results)
    table = study_table(shown)
    to_rich(table)
    points = {f: point for f, rs in shown.items() if f not in SAME_WINNER and (point := _point(rs)) is not None}
    drawn = attempt(partial(plot, points), directory / "winner_study.png") if points else []
    for path in [*write_all([table], directory), *drawn]:
        print(f"written: {path}")


if __name__ == "__main__":
    launch(command, schema=StudyConf)
