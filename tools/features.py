"""Features of finished runs beside each other, t-SNE coloured by class: the paper's Figure 5.

    python -m tools.features runs=[outputs/digits/.../ONE,outputs/digits/.../OTHER] [images=1000] [plot=FILE.png]

A run is named by the directory that holds its result.json, as tables and pages link it. What is drawn is what the
classifier of the measured model reads for the same test images, the classes balanced; how far classes stand apart in it
is a number beside each picture. `data_root=` and `device=` are those of train.py. Writes PNG, SVG and JSON, to
<output root>/features unless told otherwise.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from data import user_path
from runner.cli import launch
from runner.config.errors import ConfigError
from runner.config.fields import number, problems_of
from runner.config.identity import digest
from runner.config.resolve import read_conf, resolve, typed_keys
from runner.config.run import Run
from runner.config.schema import TrainConf
from runner.report.plots_features import Panel, plot_features, separation
from runner.report.result import Record, read_result
from runner.report.rows import rates_apart, row_key, row_names
from runner.rundir.files import write_json
from runner.stages.features import features


@dataclass
class FeaturesConf(TrainConf):
    """Directories of results, test images of each at most, and the picture's file."""

    runs: list[str] = field(default_factory=list)
    images: int = number(1000, low=50, high=10_000)
    plot: str | None = None


SHARED = ("data_root", "device")
"""Keys of the command line that hold for all runs; their own words say the rest."""
OWN = ("runs", "images", "plot", *SHARED)


def run_of(directory: Path, record: Record, shared: list[str]) -> Run:
    """The run that left this result, from the words in its record.

    Raises:
        ConfigError: if there are none, or they name another directory today.
    """
    words = [*record.get("overrides", ()), *shared]
    again = "run evaluate.py with the run's overrides, and name the directory that it prints"
    if "overrides" not in record:
        raise ConfigError(f"{directory / 'result.json'} does not say the overrides of its run; {again}")
    composed = compose("train", overrides=words)
    run = resolve(composed, typed_keys(words))
    place = run.result_directory.relative_to(run.output_root).parts
    here = directory.resolve()
    if here.parts[-len(place) :] != place:
        raise ConfigError(f"the overrides in {directory / 'result.json'} name {'/'.join(place)}; {again}")
    composed.output_root = str(here.parents[len(place) - 1])
    return replace(resolve(composed, typed_keys(words)), overrides=tuple(words))


def command(raw: DictConfig, typed: Collection[str]) -> None:
    """Compute the features of every named run, draw them, and say how far their classes stand apart."""
    conf = read_conf(raw, FeaturesConf)
    problems = list(problems_of(conf))
    problems += [f"{key}= says nothing here; a run's own words count" for key in sorted(typed) if key not in OWN]
    directories = [user_path(name, "runs") for name in conf.runs]
    problems += [
        f"runs: {d} holds no result.json; name the directory of a finished result"
        for d in directories
        if not (d / "result.json").is_file()
    ]
    if not directories:
        problems.append("name one or more results, as in runs=[outputs/digits/.../ONE,outputs/digits/.../OTHER]")
    if problems:
        raise ConfigError("\n".join(problems))
    shared = [w for w in HydraConfig.get().overrides.task if w.partition("=")[0].lstrip("+") in SHARED]
    records = rates_apart([read_result(d / "result.json") for d in directories])
    runs = [run_of(d, r, shared) for d, r in zip(directories, records, strict=True)]
    names, panels, kept = row_names(records), [], []
    for run, record in zip(runs, records, strict=True):
        found = features(run, conf.images)
        apart = separation(found.values, found.labels)
        name = f"{names[row_key(record)]}, {record['dataset']}, seed {record['seed']}"
        print(f"{name}: {apart}, test accuracy {100 * found.accuracy:.1f} % on {len(found.labels)} images")
        panels.append(Panel(f"{name}\n{apart}", found.values, found.labels))
        kept.append({"run": run.result_directory.relative_to(run.output_root).as_posix(), "name": name,
                     "images": len(found.labels), "test_accuracy": found.accuracy, **vars(apart)})  # fmt: skip
    named = digest([entry["run"] for entry in kept])
    path = user_path(conf.plot, "plot") if conf.plot else runs[0].output_root / "features" / f"{named}.png"
    write_json(path.with_suffix(".json"), {"runs": kept})
    print(f"written: {plot_features(panels, path)}")


if __name__ == "__main__":
    launch(command, schema=FeaturesConf)
