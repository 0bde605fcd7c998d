"""One sweep by every engine, killed twice and with a job that fails, held against the sweep undisturbed.

    python -m tools.torture_sweep [--engines local ray ...] [--tasks digits ...] [--epochs 3] [--out FOLDER]

Four methods by the mini suite's tasks and two seeds, from data to tables. First in one process and undisturbed.
Then by `run.py` under each engine: at a third of the results the process of the sweep and one that is at a job are
killed (SIGKILL), at two thirds the sweep is stopped (SIGTERM), and a file that stands where the last job's run
directory belongs makes that one fail. The third call must end with status 2 and name that job, the fourth, without the
file, with 0. Counted are files that differ from the undisturbed ones, and finished runs that were touched again.
Writes record.json and what the engines print to `out`. Engines other than `local` need
`pip install -e '.[ray,slurm]'` first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data import SUITES
from runner.config.protocol import WEIGHTS
from runner.rundir.lease import owner_of
from runner.tracking.environment import processor, versions
from tools.torture.fingerprint import difference, fingerprint

TASKS = SUITES["mini"]
METHODS = ("linear", "bitfit", "lora", "glora")
SEEDS = (0, 1)
ENGINES: dict[str, tuple[str, ...]] = {
    "local": ("jobs=2",),
    "ray": ("hydra/launcher=ray",),
    "submitit": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=60"),
    "submitit_slurm": ("hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=60"),
}
"""What starts the jobs; submitit's local mode starts all of them at once, a SLURM needs to be there."""
SMALL = ("trainer.warmup_epochs=1", "search.generations=1", "search.population=4", "search.parents=2",
         "search.mutants=2", "search.crossovers=2")  # fmt: skip
STEP_SECONDS = 0.2
LIMIT_SECONDS = 3600.0
"""For one call."""


def words(root: Path, asked: argparse.Namespace, engine: str | None) -> list[str]:
    """The command line of the sweep."""
    axes = (f"dataset={','.join(asked.tasks)}", f"method={','.join(METHODS)}", f"seed={','.join(map(str, SEEDS))}")
    same = ("trainer=mini", f"trainer.epochs={asked.epochs}", *SMALL, "logger.wandb=disabled", "device=cpu")
    flags = () if engine == "local" else ("-m",)
    return ["run.py", *flags, *axes, *same, f"output_root={root}", *ENGINES.get(engine or "", ())]


def results(root: Path) -> dict[str, int]:
    """Every finished run by its folder, and when its weights and result were last written."""
    found = {}
    for path in root.rglob("result.json"):
        folder = root.joinpath(*path.relative_to(root).parts[:2])  # a searched run's result lies deeper
        found[folder.relative_to(root).as_posix()] = max(p.stat().st_mtime_ns for p in (path, folder / WEIGHTS))
    return found


def call(command: Sequence[str], log: Path, root: Path, until: int = 0, number: int | None = None) -> int:
    """Run to the end, or until so many results are there, then send a signal; the exit status.

    Raises:
        RuntimeError: if it takes longer than `LIMIT_SECONDS`.
    """
    began = time.monotonic()
    with log.open("a") as output:
        print("$", *command, file=output, flush=True)
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            if number is not None and len(results(root)) >= until:
                if number == signal.SIGKILL:
                    owner = next(filter(None, map(owner_of, root.glob("*/*"))), None)
                    with contextlib.suppress(ProcessLookupError):  # done at this very moment
                        if owner is not None:
                            os.kill(owner.process, number)
                process.send_signal(number)
                break
            if time.monotonic() - began > LIMIT_SECONDS:
                process.kill()
                raise RuntimeError(f"no end in {LIMIT_SECONDS:.0f} s; see {log}")
            time.sleep(STEP_SECONDS)
        return process.wait()


def attack(
    engine: str, asked: argparse.Namespace, out: Path, expected: dict[str, Any], last: str, jobs: int
) -> dict[str, Any]:
    """What one engine came to: exit statuses, files that differ, finished runs that were touched again."""
    root, log = out / engine, out / f"{engine}.log"
    command = words(root, asked, engine)
    (root / last).parent.mkdir(parents=True)
    (root / last).write_text("in the way\n")
    began, statuses, touched = time.monotonic(), [], set()
    for until, number in ((jobs // 3, signal.SIGKILL), (2 * jobs // 3, signal.SIGTERM), (0, None), (0, None)):
        before = results(root)
        statuses.append(call(command, log, root, until, number))
        after = results(root)
        touched |= {name for name in before if after.get(name) != before[name]}
        if len(statuses) == 3:
            failed = log.read_text().rpartition("$ run.py")[2]
            (root / last).unlink()
    found = fingerprint(root)
    return {
        "statuses": statuses,
        "named_failed": [line.strip().replace(str(root), "ROOT") for line in failed.splitlines() if last in line][-1:],
        "failed_said": next((line for line in failed.splitlines() if " jobs failed" in line), ""),
        "results": len(results(root)),
        "difference": difference(of_runs(found), of_runs(expected)),
        "touched_again": sorted(touched),
        "seconds": round(time.monotonic() - began),
    }


def of_runs(found: dict[str, Any]) -> dict[str, Any]:
    """The files that belong to runs: tables and an engine's own files are of calls, logs of attempts."""
    beside = ("tables/", "multirun", ".")
    return {n: v for n, v in found.items() if not n.startswith(beside) and not n.endswith((".log", "failure.json"))}


def packages(engines: Sequence[str]) -> list[str]:
    """What these engines need beyond the framework's own requirements."""
    return sorted({name.partition("_")[0] for name in engines} - {"local"})


def parsed(args: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m tools.torture_sweep", description=__doc__)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["local"], help="what starts the jobs")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="of the mini suite")
    parser.add_argument("--epochs", type=int, default=3, help="of every training")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/torture_sweep"), help="a folder that is not there yet"
    )
    found = parser.parse_args(args)
    if found.out.exists():
        parser.error(f"{found.out} is there; delete it or choose another --out")
    if "submitit_slurm" in found.engines and not shutil.which("sbatch"):
        parser.error("--engines submitit_slurm: no sbatch on this machine; run it on a SLURM's login node")
    if lacking := [package for package in packages(found.engines) if not find_spec(package)]:
        parser.error(f"--engines needs {', '.join(lacking)}, not installed here; pip install -e '.[ray,slurm]'")
    return found


def main(args: Sequence[str]) -> int:
    """Run all engines that are asked for; 0 if nothing differs."""
    asked = parsed(args)
    out = asked.out.resolve()
    out.mkdir(parents=True)
    record: dict[str, Any] = {"device": processor(), **versions("torch", "hydra-core", *packages(asked.engines)),
                              "command": words(Path("ROOT"), asked, None), "engines": {}}  # fmt: skip
    began = time.monotonic()
    if status := call(words(out / "undisturbed", asked, None), out / "undisturbed.log", out / "undisturbed"):
        print(f"error: undisturbed it ends with status {status}; see {out / 'undisturbed.log'}", file=sys.stderr)
        return 2
    record["undisturbed_seconds"] = round(time.monotonic() - began)
    expected = fingerprint(out / "undisturbed")
    names = results(out / "undisturbed")
    record["jobs"], last = len(names), max(names)
    good = True
    for engine in asked.engines:
        found = attack(engine, asked, out, expected, last, len(names))
        whole = found["difference"] is None and not found["touched_again"] and found["results"] == len(names)
        good &= (
            whole
            and found["statuses"] == [-signal.SIGKILL, 128 + signal.SIGTERM, 2, 0]
            and len(found["named_failed"]) == 1
        )
        record["engines"][engine] = found
        (out / "record.json").write_text(json.dumps(record, indent=2) + "\n")
        print(engine, json.dumps(found, indent=2), flush=True)
        shutil.rmtree(out / engine / "multirun", ignore_errors=True)
    print("written:", out / "record.json")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
