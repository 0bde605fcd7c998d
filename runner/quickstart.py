"""The first run of a newcomer: linear probe and searched GLoRA on one real and one structured task, side by side.

    python -m runner.quickstart

The same scripts a user types, with fewer epochs and candidates; prints the table and where the pictures are.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

TASKS = ("digits", "shapes_location")
WORDS = ("trainer=mini", "trainer.epochs=30", "search=mini", "search.generations=4", "output_root=outputs/quickstart")
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the commands one by one, showing each; returns the exit status of the first that fails, else 0."""
    began = time.time()
    commands = [["prepare.py", f"dataset={','.join(TASKS)}"]]
    for task in TASKS:
        commands += [
            ["train.py", f"dataset={task}", "method=linear", *WORDS],
            ["evaluate.py", f"dataset={task}", "method=linear", *WORDS],
            ["train.py", f"dataset={task}", *WORDS],
            ["search.py", f"dataset={task}", *WORDS],
            ["evaluate.py", f"dataset={task}", *WORDS],
        ]
    for number, words in enumerate(commands):
        print(f"\n$ python {' '.join(words)}", flush=True)
        # Only the last table holds everything; the earlier ones would repeat it in parts.
        quiet = words[0] == "evaluate.py" and number < len(commands) - 1
        done = subprocess.run([sys.executable, *words], cwd=ROOT, stdout=subprocess.DEVNULL if quiet else None)
        if done.returncode:
            return done.returncode
    pictures = sorted((ROOT / "outputs" / "quickstart").rglob("*.png"))
    print(f"\n{time.time() - began:.0f} s in all. Pictures:")
    for path in pictures:
        print(f"  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
