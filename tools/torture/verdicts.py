"""What a case came to, and how cases are counted and shown."""

from __future__ import annotations

import json
import platform
import re
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

KINDS = ("identical", "named", "traceback", "hang", "silent", "outside")
"""identical: the results of an undisturbed run; named: refused in one clear line, status 2. The others are failures.

traceback: an exception, a crash or a status that says nothing; hang: no end within the limit; silent: status 0 and
other results, results missing or leftovers; outside: a file changed that is none of the run's.
"""
GOOD = KINDS[:2]
NAMED_STATUS = 2


@dataclass(frozen=True)
class Verdict:
    """The case `name` of a `part` (points, inputs ...) and `group` in it is of one of `KINDS`; `rerun` repeats it.

    `seconds` are of processor time.
    """

    part: str
    group: str
    name: str
    kind: str
    detail: str
    rerun: str
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it is as it should be."""
        return self.kind in GOOD


def rerun(part: str, name: str) -> str:
    """The command that repeats one case alone."""
    return f"python -m tools.torture {part} {'--seed' if part == 'inputs' else '--only'} {name}"


def of_output(status: int, output: str) -> tuple[str, str]:
    """The kind that an exit status and a printed text are of by themselves, and the line that says why.

    Status 0 counts as identical here: whether the results are is the caller's to see.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if "Traceback (most recent call last)" in output:
        return "traceback", next((line for line in reversed(lines) if re.match(r"[\w.]+(:|$)", line)), lines[-1])
    if status == 0:
        return "identical", ""
    if status == NAMED_STATUS:
        said = [line for line in lines if re.match(r"(\S+: )?error\b", line)]
        return ("named", said[-1]) if said else ("traceback", "status 2 without a line that says why")
    return "traceback", f"status {status}: {lines[-1] if lines else 'nothing printed'}"


def failures(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that are not as they should be."""
    return [v for v in verdicts if not v.good]


def rows(verdicts: Iterable[Verdict]) -> list[list[str]]:
    """A row of counts for each part and group, in the order they came, and their sum."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for v in verdicts:
        counts.setdefault((v.part, v.group), Counter())[v.kind] += 1
    total = sum(counts.values(), Counter[str]())
    found = [[part, group, *_figures(c)] for (part, group), c in sorted(counts.items(), key=lambda item: item[0][0])]
    return [*found, ["all", "", *_figures(total)]]


def _figures(counts: Counter[str]) -> list[str]:
    return [str(sum(counts.values())), *(str(counts[kind]) for kind in KINDS)]


def markdown(verdicts: Iterable[Verdict]) -> str:
    """The table of docs/reliability.md."""
    head = ["Part", "Of", "Cases", *(kind.capitalize() for kind in KINDS)]
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *rows(verdicts)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def listed(verdicts: Iterable[Verdict], limit: int = 40) -> str:
    """One failing case for each thing that went wrong, with how many are like it and the command that repeats it."""
    alike: dict[tuple[str, str, str, str], list[Verdict]] = {}
    for v in failures(verdicts):
        alike.setdefault((v.part, v.group, v.kind, re.sub(r"[\d.]+|'[^']*'|\S*/\S*", "*", v.detail)[:80]), []).append(v)
    shown = sorted(alike.values(), key=len, reverse=True)
    lines = [f"{len(found)} x {v.kind} in {v.part}, {v.group}: {v.detail[:300]}\n    {v.rerun}"
             for found in shown[:limit] for v in found[:1]]  # fmt: skip
    return "\n".join(lines + [f"... and {len(shown) - limit} more kinds"] * (len(shown) > limit))


def write(path: Path, command: list[str], seconds: float, verdicts: list[Verdict]) -> None:
    """Everything as JSON: the command, the machine, the counts and every failing case."""
    each: dict[str, list[float]] = {}
    for v in verdicts:
        each.setdefault(f"{v.part}, {v.group}", []).append(v.seconds)
    record = {
        "command": command,
        "seconds": round(seconds, 1),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "counts": [dict(zip(("part", "of", "cases", *KINDS), row, strict=True)) for row in rows(verdicts)],
        "processor_seconds_each": {name: round(statistics.mean(times), 3) for name, times in each.items()},
        "failures": [asdict(v) for v in failures(verdicts)],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
