"""What makes a searched winner good: every form of GLoRA beside the best baselines, by task and seed, as one table.

    python -m tools.winner_study [tasks=[digits,textures]] [forms=[glora,plus]] [seeds=3] [measure=false]

A form is a list of overrides (`FORMS`); other overrides, such as output_root= or device=, hold for all of them. Each
run lies in the directory that train.py, search.py and evaluate.py would give it: what is finished is reused, and a
killed study goes on where it was. Forms that share a supernet train it once. `measure=false` makes the table of what is
finished. Writes winner_study.json, table and picture to <output_root>/winner_study.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

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
from runner.report.figure import attempt, new_figure, save, tidy
from runner.report.render import to_rich, write_all
from runner.report.result import Record, read_result
from runner.report.tables import MISSING, Table, count, group_means, known, mean_of, mean_sd, percent, tasks_by_group
from runner.rundir.files import write_json
from runner.stages.whole import whole

log = logging.getLogger(f"glora.{__name__}")

MINI = ("trainer=mini", "search=mini")
PAPER, PLUS = "trainer=mini_paper", "method=glora_plus"
LOSS, ACCURACY, DRAWN = "search.fitness=loss", "search.fitness=accuracy", "search.extremes=false"
BASELINES = ("repadapter", "fact_tk", "fact_tt", "lora", "full", "adaptformer", "noah")
FORMS: dict[str, tuple[str, ...]] = {
    "glora": (ACCURACY, DRAWN),
    "probability": (),
    "loss": (LOSS,),
    "accuracy": (ACCURACY,),
    "drawn": (DRAWN,),
    "soup": ("search.winner=soup",),
    "greedy_soup": ("search.winner=greedy_soup",),
    "mean": ("search.winner=mean",),
    "tuned": ("search.finetune_epochs=30",),
    "fair": ("supernet.sampling=fair",),
    "draws": ("supernet.draws=2",),
    "ema": ("supernet.ema=0.99",),
    "sandwich": ("supernet.sampling=sandwich",),
    "distilled": ("supernet.sampling=sandwich", "supernet.distill=true"),
    "paper": (PAPER, ACCURACY, DRAWN),
    "paper_probability": (PAPER,),
    "paper_loss": (PAPER, LOSS),
    "paper_soup": (PAPER, "search.winner=soup"),
    "paper_greedy_soup": (PAPER, "search.winner=greedy_soup"),
    "paper_mean": (PAPER, "search.winner=mean"),
    "paper_tuned": (PAPER, "search.finetune_epochs=30"),
    "largest": ("method=glora_subnet",),
    "largest_long": ("method=glora_subnet", "trainer.epochs=150"),
    "short": (
        "trainer.epochs=30", "supernet.sampling=sandwich", LOSS, "search.max_share=0.34", "search.finetune_epochs=10"),
    "plus": (PLUS,),
    "plus_probability": (PLUS, "search.fitness=probability"),
    "plus_accuracy": (PLUS, ACCURACY),
    "plus_scratch": (PLUS, "search.finetune_scratch=true"),
    "plus_gates": (PLUS, "search.winner=soup", "search.learn_gates=true"),
    "plus_sixth": (PLUS, "search.max_share=0.17"),
    "plus_tenth": (PLUS, "search.max_share=0.1"),
    **{name: (f"method={name}",) for name in BASELINES},
    "noah": ("method=noah", ACCURACY, DRAWN),
}  # fmt: skip
"""Overrides of every form; the methods of other papers are the baselines."""

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


def named(form: str, task: str, seed: int, overrides: Sequence[str]) -> Run:
    """The run of a form; `overrides` win over the form's own."""
    args = [*MINI, *FORMS[form], f"dataset={task}", f"seed={seed}", *overrides]
    return replace(resolve(compose("train", overrides=args), typed_keys(args)), overrides=tuple(args))


def study(conf: StudyConf, overrides: Sequence[str]) -> Results:
    """The records of every form: those that are missing are made first, unless `conf.measure` is false.

    Raises:
        ConfigError: for an unknown form or task; a run that fails is logged and left out.
    """
    unknown = [f"forms: {f} is not one of {', '.join(FORMS)}" for f in conf.forms if f not in FORMS]
    unknown += [f"tasks: {t} is not one of {', '.join(SUITES['mini'])}" for t in conf.tasks if t not in SUITES["mini"]]
    if unknown:
        raise ConfigError("\n".join(unknown))
    found: Results = {form: [] for form in conf.forms}
    for seed in range(conf.seeds):
        for task in conf.tasks:
            for form in conf.forms:
                run = named(form, task, seed, overrides)
                path = run.result_directory / "result.json"
                if path.exists():
                    found[form].append(read_result(path))
                elif conf.measure:
                    try:
                        found[form].append(whole(run))
                    except (ConfigError, FloatingPointError) as error:
                        log.warning("%s on %s, seed %d is left out: %s", form, task, seed, error)
    return found


def _compared(record: Record, name: str) -> float | None:
    found: float | None = record["comparators"].get(name, {}).get("test")
    return found


Reading = Callable[[Record], float | None]
READINGS: dict[str, Reading] = {
    "Val": lambda r: r.get("tuned_val_accuracy", r["val_accuracy"]),
    "Untuned": lambda r: _compared(r, "untuned"),
    "From scratch": lambda r: _compared(r, "scratch"),
}
"""What else a record says: accuracy on the selection images, and the comparators of a tuned winner on test."""


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
    header = ["Form", *tasks, "Average", *against, *READINGS, "Params", "Training (s)", "Search (s)", "Tuning (s)",
              "Runs"]  # fmt: skip
    rows = []
    for form, records in results.items():
        if not records:
            continue
        by_task = accuracies(records)
        versus = [(None if records is other else difference(records, other)) or MISSING for other in against.values()]
        times = [_mean(records, k) for k in ("params", "training_seconds", "search_seconds", "tuning_seconds")]
        read = [percent(average(records, reading)) for reading in READINGS.values()]
        rows.append([form, *(mean_sd(by_task.get(t, [])) for t in tasks), percent(average(records)), *versus, *read,
                     *map(count, times), str(len(records))])  # fmt: skip
    notes = [f"{form}: {' '.join(FORMS[form]) or 'the defaults'}" for form, records in results.items() if records]
    notes += [
        "accuracies are test, mean ± sample sd over seeds; Average is that of the groups' means, for complete rows",
        "vs: points, mean over tasks of paired differences (same task and seed), 95 % percentile interval over "
        "resampled tasks",
        "Val: of the measured weights on the selection images, Untuned and From scratch: test accuracy of the "
        "winner with the supernet's weights and trained from its initialization; all averages of groups",
        "times are means over runs; search: without the random search beside it",
    ]
    return Table("Forms of GLoRA on the mini suite: top-1 test accuracy (%)", header, rows, notes)


def _mean(records: Sequence[Record], key: str) -> float | None:
    return mean_of(known(r.get(key) for r in records))


def plot(points: Mapping[str, tuple[float, float]], path: Path) -> Path:
    """Average accuracy (a fraction) against parameters, a named point per form; baselines are hollow."""
    from matplotlib.ticker import EngFormatter

    figure = new_figure(7.2, 4.8)
    axes = figure.subplots()
    for name, (params, accuracy) in points.items():
        face = "none" if name in BASELINES else "C0"
        axes.scatter([params], [100 * accuracy], s=40, facecolors=face, edgecolors="C1" if face == "none" else "C0")
        axes.annotate(name, (params, 100 * accuracy), textcoords="offset points", xytext=(5, 4), fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("parameters without head, mean over runs")
    axes.set_ylabel("test accuracy, average of groups (%)")
    tidy(axes)
    return save(figure, path)


def command(raw: DictConfig, typed: Collection[str]) -> None:
    """Measure what is missing, then show and write the table."""
    conf = read_conf(raw, StudyConf)
    problems = list(problems_of(conf))
    problems += [f"{key}= is the study's own; type {instead}" for key, instead in FIXED.items() if key in typed]
    if problems:
        raise ConfigError("\n".join(problems))
    shared = [w for w in HydraConfig.get().overrides.task if w.partition("=")[0].lstrip("+") not in OWN]
    results = study(conf, shared)
    if not any(results.values()):
        raise ConfigError("no run of these forms is finished; leave out measure=false")
    directory = user_path(conf.output_root, "output_root") / "winner_study"
    write_json(directory / "winner_study.json", {"forms": {f: list(FORMS[f]) for f in results}, "records": results})
    table = study_table(results)
    to_rich(table)
    found = {f: (_mean(rs, "params"), average(rs)) for f, rs in results.items()}
    points = {f: (params, accuracy) for f, (params, accuracy) in found.items() if params and accuracy is not None}
    drawn = attempt(partial(plot, points), directory / "winner_study.png") if points else []
    for path in [*write_all([table], directory), *drawn]:
        print(f"written: {path}")


if __name__ == "__main__":
    launch(command, schema=StudyConf)
