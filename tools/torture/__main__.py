"""`python -m tools.torture`: attack the framework, count what comes of it; status 1 if anything is not as it should."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

PARTS = ("points", "inputs", "disk", "pairs")


def parsed(args: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tools.torture", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--points", type=int, help="kill points; every change and 60 random times if not given")
    parser.add_argument("--inputs", type=int, default=20_000, help="hostile inputs")
    parser.add_argument(
        "--dear", type=int, help="of those at most so many that cost half a second: all but images, lists"
    )
    parser.add_argument("--disk", type=int, default=60, help="full disks")
    parser.add_argument("--pairs", type=int, default=20, help="commands started twice")
    parser.add_argument("--first", type=int, default=0, help="the first seed of the inputs, and that of all draws")
    parser.add_argument("--seed", type=int, help="one input alone, with what it prints")
    parser.add_argument("--only", help="one point, full disk or pair alone, by its name")
    parser.add_argument("--of", nargs="+", metavar="stage", help="points, disk and pairs of these stages alone")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes side by side")
    parser.add_argument("--out", type=Path, default=Path("outputs/torture.json"), help="the JSON")
    found = parser.parse_args(args)
    if unknown := set(found.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(unknown)}; the parts are {', '.join(PARTS)}")
    if (found.seed is not None or found.only is not None) and len(found.parts) != 1:
        parser.error("--seed and --only repeat one case of one part: inputs --seed 7, points --only search@17/KILL")
    return found


def main(args: list[str]) -> int:
    """Run the parts; the exit status."""
    asked, began = parsed(args), time.monotonic()
    # The libraries take seconds to import: not for a mistyped word.
    from tools.torture import disks, hostile_files, inputs, points, verdicts
    from tools.torture.children import spread
    from tools.torture.sandboxes import Sandboxes
    from tools.torture.small import STAGES

    parts, only = asked.parts or PARTS, asked.only if asked.seed is None else str(asked.seed)
    named = [] if parts == ["inputs"] else [asked.only] if asked.only else asked.of or STAGES
    try:
        stages = {points.stage_of(name) for name in named}
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        boxes = Sandboxes(Path(scratch).resolve())
        boxes.prepare(stages, hostile_files.AFTER if "inputs" in parts else ())
        print(f"prepared in {time.monotonic() - began:.0f} s", flush=True)
        names = {
            "points": lambda: points.names(boxes, stages, asked.points, asked.first),
            "inputs": lambda: inputs.names(asked.first, asked.inputs, asked.dear),
            "disk": lambda: disks.names(boxes, stages, asked.disk, asked.first),
            "pairs": lambda: points.pair_names(boxes, stages, asked.pairs, asked.first),
        }
        work = {"points": points.point, "inputs": inputs.case, "disk": disks.case, "pairs": points.two_at_once}
        found: list[verdicts.Verdict] = []
        for part in parts:
            started, before = time.monotonic(), len(found)
            for verdict in spread(part, [only] if only else names[part](), partial(work[part], boxes), asked.jobs):
                found.append(verdict)
                if not verdict.good:  # at once: a run of an hour may be cut short
                    print(f"{verdict.kind}: {verdict.detail[:200]}\n    {verdict.rerun}", flush=True)
                if not (len(found) - before) % 500:
                    print(f"{part}: {len(found) - before}, {len(verdicts.failures(found))} failures", flush=True)
                    verdicts.write(asked.out, ["python", "-m", "tools.torture", *args], time.monotonic() - began, found)
            print(f"{part}: {len(found) - before} in {time.monotonic() - started:.0f} s", flush=True)
    if only:
        print(*(f"{v.group}: {v.name}\n{v.kind}: {v.detail}" for v in found), sep="\n")
    print(verdicts.markdown(found))
    print(verdicts.listed(found))
    verdicts.write(asked.out, ["python", "-m", "tools.torture", *args], time.monotonic() - began, found)
    print(f"written: {asked.out}")
    return int(bool(verdicts.failures(found)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
