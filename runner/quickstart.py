"""The first run of a newcomer: probe, GLoRA as the paper trains it, and `glora_plus`, on a real and a structured task.

    python -m runner.quickstart [overrides of run.py, for example output_root=/tmp/quick]

The same script a user types, with fewer epochs and candidates; prints the table of all and where the plots are.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from data import DataError, user_path
from runner.config.overrides import quoted, values_of
from runner.sweep.local import fitting_jobs
from runner.tracking.progress import print_anything

TASKS = ("digits", "shapes_location")
OVERRIDES = ("backbone=vit_micro", "trainer=mini", "search=quick")
METHODS = (
    ("method=linear,glora", "trainer.epochs=14"),
    ("method=glora_plus", "trainer.epochs=8", "search.finetune_epochs=7"),  # a step costs more
)
"""The runs of each task, a command each: what one of them asks for would hold for all methods of its command."""
ROOT = Path(__file__).resolve().parent.parent


def main(more: list[str]) -> int:
    """Run the commands one by one, showing each; returns the exit status of the first that fails, else 0."""
    print_anything()
    began = time.time()
    try:
        values = values_of([quoted(arg) for arg in more])
        output = ROOT / user_path(values.get("output_root", "outputs/quickstart"), "output_root")
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    overrides = [*OVERRIDES, *more, f"output_root={output}"]
    data_root = [arg for arg in more if arg.startswith("data_root=")]
    tasks = f"dataset={','.join(TASKS)}"
    commands = [["prepare.py", tasks, *data_root]]
    for words in METHODS:
        jobs = len(TASKS) * len(words[0].split(","))
        at_once = [] if any(arg.startswith("jobs=") for arg in more) else [f"jobs={fitting_jobs(jobs)}"]
        commands.append(["run.py", tasks, *words, *overrides, *at_once])
    for command in commands:
        print(f"\n$ python {' '.join(command)}", flush=True)
        done = subprocess.run([sys.executable, *command], cwd=ROOT)
        if done.returncode:
            return done.returncode
    print(f"\n{time.time() - began:.0f} s in all. Plots:")
    for path in sorted(output.rglob("plots/*.png")):
        print(f"  {os.path.relpath(path, ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
