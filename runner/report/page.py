"""`report.py`: which finished runs a page is of, and where it goes."""

from __future__ import annotations

from pathlib import Path

from runner.config.errors import ConfigError
from runner.config.run import Run
from runner.report.html import write_report
from runner.report.result import PATH, collect
from runner.report.show import tables

PAGE = "report.html"


def of_run(run: Run) -> list[str]:
    """The results of the run: its root, and its directory below that."""
    return [str(run.output_root), run.result_directory.relative_to(run.output_root).as_posix()]


def finish(named: list[list[str]]) -> None:
    """Write the page of every root, with the runs that were named, or with all where a directory is empty.

    Args:
        named: pairs of a root and a directory of results below it.

    Raises:
        ConfigError: if nothing is finished, or results cannot be read; the page is without those then.
    """
    unread = []
    for root in dict.fromkeys(Path(root) for root, _ in named):
        wanted = {directory for of, directory in named if Path(of) == root}
        records, problems = collect(root)
        unread += problems
        if "" not in wanted:
            records = [r for r in records if any(Path(r[PATH]).is_relative_to(d) for d in wanted)]
        if not records:
            nothing = (
                f"no finished result of these runs under {root}; run train.py and evaluate.py with the same overrides"
            )
            raise ConfigError("\n".join([*problems, f"{nothing} first, or point output_root at your results"]))
        path = write_report(root / PAGE, tables(records), records, root, f"GLoRA: results of {root.name}")
        print(f"written: {path}")
    if unread:
        raise ConfigError("\n".join([*unread, "the page is without these results"]))
