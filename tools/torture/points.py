"""Kill points: a stage ends by a signal right before one of its changes of a file, or at some time; then it runs again.

A point is called `<stage>@<change>/<signal>` or `<stage>@<seconds>s/<signal>`, its signal KILL or TERM.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Collection
from pathlib import Path

from tools.torture.children import Child, run
from tools.torture.fingerprint import difference, fingerprint
from tools.torture.sandboxes import Sandboxes
from tools.torture.small import STAGES
from tools.torture.verdicts import GOOD, Verdict, rerun
from tools.torture.watch import kill_at

SIGNALS = ("KILL", "TERM")
PART = "points"
LIMIT = 60.0
TIMES = 60
"""Random times among the points, if their number is not given."""
SIGNALLED = {"KILL": (-9,), "TERM": (-15, 143)}
"""How a command may end that was sent a signal, besides its own end with 0 where the signal came too late."""


def names(boxes: Sandboxes, stages: Collection[str], count: int | None, seed: int) -> list[str]:
    """`count` points: one before every change of every stage, then random times; a draw of them if that is too many.

    None: every change and `TIMES` random times.
    """
    rng, known = random.Random(seed), in_order(stages)
    found = []
    for name in known:
        changes = boxes.undisturbed[name].changes or 0
        found += [f"{name}@{n}/{rng.choice(SIGNALS)}" for n in range(1, changes + 1)]
    count = len(found) + TIMES if count is None else count
    if len(found) > count:
        return rng.sample(found, count)
    while len(found) < count:
        name = rng.choice(known)
        found.append(f"{name}@{rng.uniform(0, boxes.undisturbed[name].seconds):.3f}s/{rng.choice(SIGNALS)}")
    return found


def in_order(stages: Collection[str]) -> list[str]:
    """The stages of these names in the order in which they follow each other."""
    return [name for name in STAGES if name in stages]


def stage_of(name: str) -> str:
    """The stage of a point, a full disk or a pair. Raises ValueError if there is none of that name."""
    found = re.split(r"[@+]", name)[0]
    if found not in STAGES:
        raise ValueError(f"{name}: no stage {found}; the stages are {', '.join(STAGES)}")
    return found


def parsed(name: str) -> tuple[str, str, str]:
    """Stage, place and signal of a point. Raises ValueError if it is none."""
    found = re.fullmatch(rf"({'|'.join(STAGES)})@(\d+|[\d.]+s)/({'|'.join(SIGNALS)})", name)
    if found is None:
        raise ValueError(f"{name} is no kill point; one is search@17/KILL or train@0.250s/TERM, the stages are "
                         f"{', '.join(STAGES)}")  # fmt: skip
    return found[1], found[2], found[3]


def point(boxes: Sandboxes, name: str) -> Verdict:
    """Kill, run again, compare."""
    stage, place, signal = parsed(name)
    with boxes.sandbox(STAGES[stage].after) as folder:
        if place.endswith("s"):
            killed = run(boxes.task(stage), folder, LIMIT, kill=(float(place[:-1]), signal))
        else:
            killed = run(boxes.task(stage), folder, LIMIT, before=kill_at(int(place), signal))
        kind, detail = killed.kind()
        if killed.status in SIGNALLED[signal] and "Traceback" not in killed.output:
            kind, detail = "identical", ""
        if kind == "named" and signal == "TERM":  # it says where the run stands
            kind = "identical"
        if kind == "identical":
            kind, detail = again(boxes, stage, folder)
    return Verdict(PART, stage, name, kind, detail, rerun(PART, name))


def again(boxes: Sandboxes, stage: str, folder: Path) -> tuple[str, str]:
    """The kind that the stage's command comes to in a sandbox where it was disturbed, and why."""
    ended = run(boxes.task(stage), folder, LIMIT)
    kind, detail = ended.kind()
    if kind == "identical":
        other = difference(fingerprint(folder / "out"), boxes.references[stage, STAGES[stage].after])
        if other is not None:
            return "silent", other
    return kind, detail


def two_at_once(boxes: Sandboxes, name: str) -> Verdict:
    """One command in two processes, the second some seconds after the first; then the same command once more."""
    stage, _, delay = name.partition("+")
    with boxes.sandbox(STAGES[stage].after) as folder:
        first = Child(boxes.task(stage), folder)
        time.sleep(float(delay))
        second = Child(boxes.task(stage), folder)
        kinds = [child.wait(2 * LIMIT).kind() for child in (first, second)]
        kind, detail = next((k for k in kinds if k[0] not in GOOD), None) or again(boxes, stage, folder)
    return Verdict("pairs", stage, name, kind, detail, rerun("pairs", name))


def pair_names(boxes: Sandboxes, stages: Collection[str], count: int, seed: int) -> list[str]:
    """`count` starts of a second process, every second one of a sweep."""
    rng, known = random.Random(seed), in_order(stages)
    chosen = ["sweep" if "sweep" in stages and i % 2 == 0 else rng.choice(known) for i in range(count)]
    return [f"{name}+{rng.uniform(0, boxes.undisturbed[name].seconds):.3f}" for name in chosen]
