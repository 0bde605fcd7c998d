"""DMLab's raw tfrecord files, read without TensorFlow."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from data.base import DataError, MissingData
from data.sources.base import Example, Listing, need


def records(path: Path) -> Iterator[tuple[int, int]]:
    """(offset, length) of every record: length (8 bytes), its checksum (4), data, checksum (4)."""
    size, at = path.stat().st_size, 0
    with path.open("rb") as stream:
        while at < size:
            stream.seek(at)
            head = stream.read(12)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if at + 16 + length > size:
                raise DataError(f"{path} is cut off at byte {at}; fetch it again")
            yield at + 12, length
            at += 16 + length


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of a protocol-buffer message of varints and length-delimited fields."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 2:
            length, at = _varint(data, at)
            yield tag >> 3, data[at : at + length]
            at += length
        elif tag & 7 == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
        else:
            raise ValueError(f"wire type {tag & 7}")


def parse_example(data: bytes) -> dict[str, bytes | int]:
    """The bytes and int64 features of a tf.train.Example, one value each."""
    out: dict[str, bytes | int] = {}
    for _, features in _fields(data):
        for _, entry in _fields(features if isinstance(features, bytes) else b""):
            pair = dict(_fields(entry if isinstance(entry, bytes) else b""))
            name, feature = pair[1], pair[2]
            assert isinstance(name, bytes) and isinstance(feature, bytes)
            for _, values in _fields(feature):
                for _, value in _fields(values if isinstance(values, bytes) else b""):
                    out[name.decode()] = _varint(value, 0)[0] if _packed(feature, value) else value
    return out


def _packed(feature: bytes, value: bytes | int) -> bool:
    """Whether a list value is packed int64: field 3 of Feature holds integers, field 1 bytes."""
    return feature[0] >> 3 == 3 and isinstance(value, bytes)


def dmlab(folder: Path, task: str) -> dict[str, Listing]:
    """``dmlab-{train,validation,test}.tfrecord*`` with features image (JPEG), filename and label."""
    need(folder)
    out = {}
    for split in ("train", "validation", "test"):
        files = sorted(folder.glob(f"dmlab-{split}.tfrecord*"))
        if not files:
            raise MissingData(f"missing {folder}/dmlab-{split}.tfrecord* (unpacked from dmlab.tar.gz)")
        places = [(path, *place) for path in files for place in records(path)]
        out[split] = _listing(places)
    return out


def _text(value: bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _listing(places: list[tuple[Path, int, int]]) -> Listing:
    def example(i: int) -> dict[str, bytes | int]:
        path, offset, length = places[i]
        with path.open("rb") as stream:
            stream.seek(offset)
            try:
                return parse_example(stream.read(length))
            except (ValueError, KeyError, IndexError, AssertionError) as error:
                raise DataError(f"{path}: record at byte {offset} is damaged ({error}); fetch it again") from error

    def get(i: int) -> Example:
        found = example(i)
        picture, label = found["image"], found["label"]
        assert isinstance(picture, bytes) and isinstance(label, int)
        return Example(picture, label, f"{places[i][0]} at byte {places[i][1]}")

    keys = [_text(example(i)["filename"]) for i in range(len(places))]
    return Listing(len(places), get, keys)
