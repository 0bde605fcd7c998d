"""Prepare data sets, or list what they need: `python prepare.py dataset=dtd source=noah`; `--help` tells all."""

from dataclasses import asdict
from typing import Any

from runner.signals import loading

with loading():
    from runner.cli import launch
    from runner.config.preparation import PrepareConf, from_json, read_preparations
    from runner.stages.prepare import prepare_all


def finish(wanted: list[list[dict[str, Any]]]) -> int:
    """Prepare what the jobs of the command ask for; returns the exit status: 1 where a task is not ready."""
    return 0 if prepare_all([from_json(one) for several in wanted for one in several]) else 1


if __name__ == "__main__":
    launch(
        lambda raw, typed: [asdict(one) for one in read_preparations(raw, typed)],
        finish,
        config="prepare",
        schema=PrepareConf,
        gather=True,
        quiet=True,
    )
