"""Measure test once and print the tables: `python evaluate.py dataset=digits trainer=mini`; no words: all results."""

from pathlib import Path

from runner.cli import main
from runner.config import ConfigError, output_root
from runner.measuring import measure
from runner.report import collect, show
from runner.schema import TrainConf


def stage(config: TrainConf) -> str:
    """Measure the named run if it has no result yet; returns where its results are."""
    if config.dataset is not None:
        measure(config)
    return str(output_root(config))


def finish(roots: list[str]) -> None:
    """Show every result under `output_root`: once, however many runs a sweep measured."""
    unread = []
    for root in dict.fromkeys(map(Path, roots)):
        records, problems = collect(root)
        unread += problems
        if not records and not problems:
            raise ConfigError(
                f"no finished result under {root}; run train.py first, or point output_root at your results"
            )
        for path in show(records, root / "tables"):
            print(f"written: {path}")
    if unread:
        raise ConfigError("\n".join([*unread, "the tables are without these results"]))


if __name__ == "__main__":
    main(stage, finish)
