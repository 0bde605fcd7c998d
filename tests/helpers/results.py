"""What runs came to, for comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TIMES = {"training_seconds", "search_seconds", "tuning_seconds", "peak_memory_mb", "environment", "overrides"}


def results(root: Path) -> dict[str, dict[str, Any]]:
    """Every result under a root by its folder, without times and what was typed."""
    found = {}
    for path in sorted(root.rglob("result.json")):
        record = json.loads(path.read_text())
        found[path.parent.relative_to(root).as_posix()] = {k: v for k, v in record.items() if k not in TIMES}
    return found
