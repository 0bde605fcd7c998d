"""Measure test once, print the tables: `python evaluate.py dataset=digits trainer=mini`; no overrides: all results."""

from pathlib import Path

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.config.errors import ConfigError
    from runner.config.run import Run
    from runner.report.result import collect
    from runner.report.show import show
    from runner.stages.evaluate import evaluate


def stage(run: Run) -> tuple[str, bool]:
    """Measure the named run if it has no result yet; returns where its results are, and whether to show all tables."""
    evaluate(run)
    return str(run.output_root), run.tracking.details


def finish(places: list[tuple[str, bool]]) -> None:
    """Show every result under `output_root`: once, however many runs a sweep measured."""
    unread = []
    for root, details in dict(places).items():
        records, problems = collect(Path(root))
        unread += problems
        if not records and not problems:
            raise ConfigError(
                f"no finished result under {root}; run train.py first, or point output_root at your results"
            )
        written = show(records, Path(root) / "tables", details)
        print(f"written: {', '.join(map(str, written))}")
        if not details:
            print("seeds, cost and searches: the same command with details=true; a page of it all: python report.py")
    if unread:
        raise ConfigError("\n".join([*unread, "the tables are without these results"]))


if __name__ == "__main__":
    main(stage, finish, lambda conf: (conf.output_root, conf.details))
