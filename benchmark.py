"""Measure speed: `python benchmark.py train backbone=vit_b16 ranks=[8,4]`; `--help` says what else is measured."""

import sys

from runner.signals import loading

with loading():
    from runner.bench.command import COMMANDS, CONFIGS, measure, read_bench
    from runner.cli import launch

if __name__ == "__main__":
    command = sys.argv[1] if sys.argv[1:] else ""
    if command in COMMANDS:
        del sys.argv[1]
    elif command in ("help", "-h", "--help"):
        command, sys.argv[1:] = "growth", ["--help"]
    else:
        print(f"error: name one of {', '.join(COMMANDS)}, as in python benchmark.py train", file=sys.stderr)
        sys.exit(2)
    launch(
        lambda raw, typed: measure(command, read_bench(raw, command)),
        config="benchmark",
        schema=COMMANDS[command],
        quiet=True,
        configs=CONFIGS,
    )
