"""`result.json`: what a finished run is known by, written and read here alone.

Schema 2 adds what schema 1 left to the names of backbone and protocol: `family`, `mark` and `comparable`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.config.errors import ConfigError
from runner.config.protocol import FOUNDING
from runner.rundir.files import read_json, write_json

SCHEMA = 2
Record = dict[str, Any]
NEEDED = ("dataset", "suite", "method", "label", "backbone", "protocol", "hparams", "seed", "selected_on_test",
          "normalization", "source", "codec", "training_images", "params", "val_accuracy", "test_accuracy",
          "comparators")  # fmt: skip
"""What every table reads of a result."""

FAMILIES = {"vit_b16_in21k": "vit_b16", "vit_b16_augreg_in21k": "vit_b16", "swin_b_in22k": "swin_b"}
"""The families of the backbones that results of schema 1 know by name."""


def write_result(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result, whole or not at all."""
    write_json(path, {"schema": SCHEMA, **record})


def read_result(path: Path) -> Record:
    """A result as it is on the disk, of whichever schema, with what schema 2 has.

    Raises:
        ConfigError: naming the file, if it cannot be read, lacks something, or comes from a later version.
    """
    record: Record = read_json(path, *NEEDED)
    if record.get("schema", 1) not in range(1, SCHEMA + 1):
        raise ConfigError(f"{path} has schema {record['schema']}, this version reads 1 to {SCHEMA}; update the code")
    return completed(record)


def completed(record: Mapping[str, Any]) -> Record:
    """A result of whichever schema with the values of schema 2, its own where it has them."""
    founding = FOUNDING.get(record["protocol"])
    return {
        "family": FAMILIES.get(record["backbone"]),
        "mark": "selected on test" if record["selected_on_test"] else "",
        "comparable": founding.comparable if founding else False,
        **record,
    }


def collect(root: Path) -> tuple[list[Record], list[str]]:
    """Every result below `root`, in the order of their paths, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for path in sorted(root.rglob("result.json")):
        try:
            records.append(read_result(path))
        except ConfigError as error:
            problems.append(str(error))
    return records, problems
