"""Measure test once, print the tables: `python evaluate.py dataset=digits trainer=mini`; no overrides: all results."""

from runner.signals import loading

with loading():
    from runner.cli import main
    from runner.config.run import Run
    from runner.report.show import show_results
    from runner.stages.evaluate import evaluate


def stage(run: Run) -> tuple[str, bool]:
    """Measure the named run if it has no result yet; returns where its results are, and whether to show all tables."""
    evaluate(run)
    return str(run.output_root), run.tracking.details


if __name__ == "__main__":
    main(stage, show_results, lambda conf: (conf.output_root, conf.details))
