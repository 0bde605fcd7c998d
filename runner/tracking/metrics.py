"""The files of a tracker as they are read back: `metrics.jsonl`, a record a line, and `summary.json`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, JsonValue, TypeAdapter

from data.files import read_bytes
from glora.typed import STRICT, Count, Typed, parse

logger = logging.getLogger(f"glora.{__name__}")


class Place(Typed):
    """Where in a training a record was logged, by which records are ordered and cut off."""

    step: Count = 0
    epoch: Count = 0


def _placed(record: dict[str, JsonValue]) -> dict[str, Any]:
    Place.model_validate(record)
    return record


RECORD = TypeAdapter(Annotated[dict[str, JsonValue], AfterValidator(_placed)], config=STRICT)
SUMMARY = TypeAdapter(dict[str, JsonValue], config=STRICT)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; none if absent. Lines torn by a crash are left out, and named in the log."""
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(read_bytes(path).split(b"\n"), 1):
        if line.strip():
            try:
                records.append(parse(RECORD.validate_json, line))
            except ValueError as error:
                logger.warning("%s:%d %s; the line is left out", path, number, error)
    return records


def read_summary(path: Path) -> dict[str, Any]:
    """The values of a `summary.json`; none if absent. One that is damaged is named in the log and begun anew."""
    if not path.exists():
        return {}
    try:
        return parse(SUMMARY.validate_json, read_bytes(path))
    except ValueError as error:
        logger.warning("%s %s; it is made anew from what is known now", path, error)
        return {}
