"""tfrecord files and tf.train.Example messages, read without TensorFlow.

A tfrecord file is a row of records: length (8 bytes), its masked CRC32C (4), data, their masked CRC32C (4). Lengths are
checked against the file; the checksums are not, since without native code they cost more than the decoding.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from data.base import DataError
from data.sources.base import need

Value = Sequence[bytes | int | float]
DAMAGE = (ValueError, KeyError)
"""What a record that is none of the data set raises while it is read."""


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
    """The features of one record found by `records`; DataError that names file and byte."""
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return parse_example(stream.read(length))
    except DAMAGE as error:
        raise DataError(f"{path}: record at byte {offset} is damaged ({error}); fetch it again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


@cache
def example_parser() -> Callable[[bytes], Any]:
    """A function from bytes to a tf.train.Example that raises ValueError on anything else.

    tensorflow-datasets ships its message classes. They are imported with the first record: that takes most of a second,
    and most sources hold none.

    Raises:
        DataError: if tensorflow-datasets is not installed.
    """
    try:
        from google.protobuf.message import DecodeError
        from tensorflow_datasets.proto import tf_example_pb2
    except ImportError as error:
        raise DataError("records of tf.train.Example need: pip install tensorflow-datasets") from error

    def parse(data: bytes) -> Any:
        try:
            return tf_example_pb2.Example.FromString(data)
        except DecodeError as error:
            raise ValueError(error) from error

    return parse


def parse_example(data: bytes) -> dict[str, Value]:
    """All features of a tf.train.Example by name, each a list. Raises ValueError on anything else."""
    features = example_parser()(data).features.feature
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {name: list(getattr(features[name], kind).value) if kind else [] for name, kind in kinds.items()}


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
