"""Measure speed: `python benchmark.py data images=1000 size=375x500 repeats=5 [json=FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from runner.bench_data import data_lines, measure_data
from runner.folder import write_json

USAGE = "usage: python benchmark.py data [images=1000] [size=375x500] [repeats=5] [json=FILE]"


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    given = {"images": "1000", "size": "375x500", "repeats": "5", "json": ""}
    if not words or words[0] != "data":
        print(USAGE, file=sys.stderr)
        return 2
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in given or not equals:
            print(f"benchmark.py: unknown word '{word}'; {USAGE}", file=sys.stderr)
            return 2
        given[key] = value
    height, _, width = given["size"].partition("x")
    numbers = (given["images"], height, width, given["repeats"])
    if not all(n.isdecimal() for n in numbers) or int(given["images"]) < 136 or min(int(height), int(width or 0)) < 32:
        print(f"benchmark.py: images (at least 136), size (at least 32x32) and repeats are numbers; {USAGE}",
              file=sys.stderr)  # fmt: skip
        return 2
    found = measure_data(*map(int, numbers))
    print(*data_lines(found), sep="\n")
    if given["json"]:
        write_json(Path(given["json"]), found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
