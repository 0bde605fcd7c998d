"""What a folder of runs holds, so that two can be compared: everything but times, memory and logs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError, safe_open

TIMES = re.compile(r"seconds|memory|digest")
"""Keys of what differs between two undisturbed runs; a digest is of a file with times, and its reader checks it."""
PRESENT = "there"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in sorted(value.items()) if not TIMES.search(k)}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _table(text: str) -> list[list[str]]:
    lines = list(csv.reader(io.StringIO(text)))
    kept = [i for i, name in enumerate(lines[0] if lines else []) if not TIMES.search(name)]
    return [[line[i] for i in kept if i < len(line)] for line in lines]


def _value(path: Path, exact: bool) -> Any:
    content = path.read_bytes()
    try:
        if path.suffix == ".png":
            with Image.open(io.BytesIO(content)) as image:
                image.load()
            return PRESENT
        if exact and path.suffix != ".log":
            return hashlib.sha256(content).hexdigest()
        if path.suffix == ".json":
            return _plain(json.loads(content))
        if path.suffix == ".jsonl":
            return [_plain(json.loads(line)) for line in content.splitlines()]
        if path.suffix == ".csv" and "tables" not in path.parts[-2]:
            return _table(content.decode())
    except (OSError, ValueError, RecursionError) as error:
        return f"damaged: {error}"
    return hashlib.sha256(content).hexdigest() if path.suffix in (".safetensors", ".pt") else PRESENT


def fingerprint(root: Path, exact: bool = False) -> dict[str, Any]:
    """What each file below `root` holds, by its relative path.

    Args:
        root: need not exist.
        exact: with times, byte for byte but for pictures and logs: of one command on two copies of one folder.
    """
    files = sorted(p for p in root.rglob("*") if p.is_file() and not _passing(p) and "sweeps" not in p.parts)
    return {str(p.relative_to(root)): _value(p, exact) for p in files}


def _passing(path: Path) -> bool:
    """Locks and leases, which say who was there and nothing of the results."""
    return path.name == ".lock" or (path.name.startswith(".lease-") and path.suffix != ".part")


def difference(found: dict[str, Any], expected: dict[str, Any], leave: str | None = None) -> str | None:
    """The first file in which two fingerprints differ, in words; None where they do not. `leave` is not compared."""
    names = {name for name in found.keys() | expected.keys() if name != leave}
    for name in sorted(names, key=lambda n: (n in found and n in expected, n)):
        if name not in expected:
            return f"{name} stays behind"
        if name not in found:
            return f"{name} is missing"
        if found[name] != expected[name]:
            other = found[name] if isinstance(found[name], str) and found[name].startswith("damaged") else "is another"
            return f"{name} {other}"
    return None


def not_finite(root: Path) -> str | None:
    """The first weights file below `root` that holds a number that is not finite, or cannot be read."""
    for path in sorted(root.rglob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                sums = [float(file.get_tensor(name).double().abs().sum()) for name in file.keys()]  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            return f"{path.name}: {error}"
        if not all(map(math.isfinite, sums)):
            return f"{path.name} holds numbers that are not finite"
    return None
