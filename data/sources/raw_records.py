"""DMLab's raw tfrecord files."""

from __future__ import annotations

from pathlib import Path

from data.base import MissingData
from data.sources.base import Example, Listing, need
from data.sources.reading import faults
from data.sources.records import one_bytes, one_int, read_example, records


def dmlab(folder: Path, task: str) -> dict[str, Listing]:
    """`dmlab-{train,validation,test}.tfrecord*` with features image (JPEG), filename and label."""
    there = sorted(need(folder).iterdir())
    out = {}
    for split in ("train", "validation", "test"):
        files = [path for path in there if path.name.startswith(f"dmlab-{split}.tfrecord")]
        if not files:
            raise MissingData(f"missing {folder}/dmlab-{split}.tfrecord* (unpacked from dmlab.tar.gz)")
        out[split] = _listing([(path, *span) for path in files for span in records(path)])
    return out


def _listing(spans: list[tuple[Path, int, int]]) -> Listing:
    def name(i: int) -> str:
        return f"{spans[i][0]} at byte {spans[i][1]}"

    def get(i: int) -> Example:
        with faults(f"{name(i)} is no dmlab example"):
            found = read_example(*spans[i])
            return Example(one_bytes(found, "image"), one_int(found, "label"), name(i))

    def key(i: int) -> str:
        with faults(f"{name(i)} is no dmlab example"):
            return one_bytes(read_example(*spans[i]), "filename").decode()

    return Listing(len(spans), get, [key(i) for i in range(len(spans))])
