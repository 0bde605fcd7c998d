"""tfrecord files and tf.train.Example messages, read without TensorFlow.

A tfrecord file is a row of records: length (8 bytes), its masked CRC32C (4), data, their masked CRC32C (4). Lengths are
checked against the file; the checksums are not, since without native code they cost more than the decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.base import DataError
from data.sources.base import need

Value = list[bytes] | list[int] | list[float]
DAMAGE = (ValueError, KeyError, IndexError, struct.error)


def records(path: Path) -> Iterator[tuple[int, int]]:
    """(offset, length) of the data of every record; DataError where the file is cut off."""
    size, at = need(path).stat().st_size, 0
    with path.open("rb") as stream:
        while at < size:
            stream.seek(at)
            head = stream.read(12)
            length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else size
            if at + 16 + length > size:
                raise DataError(f"{path} is cut off at byte {at}; fetch it again")
            yield at + 12, length
            at += 16 + length


def read_example(path: Path, offset: int, length: int) -> dict[str, Value]:
    """The features of one record found by ``records``; DataError that names file and byte."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return parse_example(stream.read(length))
    except DAMAGE as error:
        raise DataError(f"{path}: record at byte {offset} is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(number, value) of a protocol-buffer message of varints, 32-bit and length-delimited fields."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind == 5:
            length = 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + length > len(data):
            raise ValueError("a field runs past the end")
        yield tag >> 3, data[at : at + length]
        at += length


def _inside(data: bytes) -> Iterator[tuple[int, bytes]]:
    """As ``_fields`` for a message whose fields are all messages, text or numbers of fixed size."""
    for number, value in _fields(data):
        if not isinstance(value, bytes):
            raise ValueError(f"field {number} is a number")
        yield number, value


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _feature(data: bytes) -> Value:
    """A tf.train.Feature: field 1 holds a list of bytes, 2 of float32, 3 of int64; numbers are packed or single."""
    for kind, content in _inside(data):
        if kind == 1:
            return [value for _, value in _inside(content)]
        if kind == 2:
            floats: list[float] = np.frombuffer(b"".join(v for _, v in _inside(content)), "<f4").tolist()
            return floats
        numbers: list[int] = []
        for _, value in _fields(content):
            if isinstance(value, int):
                numbers.append(_signed(value))
                continue
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                numbers.append(_signed(number))
        return numbers
    return []


def parse_example(data: bytes) -> dict[str, Value]:
    """All features of a tf.train.Example by name, each a list. Raises one of ``DAMAGE`` on anything else."""
    out: dict[str, Value] = {}
    for _, features in _inside(data):
        for _, entry in _inside(features):
            pair = dict(_inside(entry))
            out[pair[1].decode()] = _feature(pair.get(2, b""))
    return out


def one_bytes(example: dict[str, Value], name: str) -> bytes:
    """The single bytes value of a feature; KeyError or ValueError when there is none."""
    (value,) = example[name]
    if not isinstance(value, bytes):
        raise ValueError(f"'{name}' holds no bytes")
    return value


def one_int(example: dict[str, Value], name: str) -> int:
    """The single whole number of a feature; KeyError or ValueError when there is none."""
    (value,) = example[name]
    if not isinstance(value, int):
        raise ValueError(f"'{name}' is no whole number")
    return value
