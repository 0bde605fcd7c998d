"""Measure test once, print the tables: `python evaluate.py dataset=digits trainer=mini`; no overrides: all results."""

from pathlib import Path

from runner.cli import main
from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.report.result import collect
from runner.report.show import show
from runner.stages.evaluate import evaluate


def stage(run: Run) -> str:
    """Measure the named run if it has no result yet; returns where its results are."""
    evaluate(run)
    return str(run.output_root)


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
    main(stage, finish, str)
