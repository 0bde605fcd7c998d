"""From data to tables in one word: `python run.py dataset=digits trainer=mini`; `jobs=4`, `dry_run=true`, `status`."""

import sys

from runner.signals import loading

with loading():
    from runner.sweep.command import command

if __name__ == "__main__":
    command(sys.argv[1:])
