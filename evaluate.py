"""Measure test once and print the tables: `python evaluate.py dataset=digits trainer=mini`; no words: all results."""

from pathlib import Path

from runner.cli import main
from runner.config import ConfigError, output_root
from runner.measuring import measure
from runner.report import collect, show
from runner.schema import TrainConf

roots: dict[Path, None] = {}


def stage(config: TrainConf) -> None:
    """Measure the named run if it has no result yet."""
    if config.dataset is not None:
        measure(config)
    roots[output_root(config)] = None


def finish() -> None:
    """Show every result under `output_root`: once, however many runs a sweep measured."""
    unread = []
    for root in roots:
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
