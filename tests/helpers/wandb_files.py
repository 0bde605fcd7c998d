"""The files of offline W&B runs, read as `wandb sync` reads them."""

from __future__ import annotations

import json
import struct
import time
import zlib


def offline_files(folder):
    return sorted((folder / "wandb").glob("offline-run-*/*.wandb"))


def messages(path):
    """The whole messages of a .wandb file, a LevelDB log: blocks of 32 KiB, chunks of crc, length, kind, after 7 bytes.

    A chunk that is not all there, or whose checksum differs, ends the file, as it ends it for `wandb sync`.
    """
    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # the rest of a block too small for a chunk header is padding
            position += 32768 - position % 32768
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, position)
        chunk = data[position + 6 : position + 7 + length]
        if len(chunk) != length + 1 or zlib.crc32(chunk) != checksum:
            return
        parts += chunk[1:]
        position += 7 + length
        if kind in (1, 4):  # a full message, or the last chunk of one
            yield parts
            parts = b""


def records(path):
    """The records of a finished run. W&B may write it a moment after `finish` returns: wait for the last one."""
    from wandb.proto import wandb_internal_pb2 as pb

    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        found = [pb.Record.FromString(data) for data in messages(path)]
        if found and found[-1].WhichOneof("record_type") == "exit":
            assert path.read_bytes()[:4] == b":W&B"
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} does not end in the record of the run's end")


def history(path):
    """The run id and the history rows of a .wandb file."""
    logged, run_id = [], None
    for message in records(path):
        if message.WhichOneof("record_type") == "history":
            logged.append({item.key or "/".join(item.nested_key): json.loads(item.value_json)
                           for item in message.history.item})  # fmt: skip
        elif message.WhichOneof("record_type") == "run":
            run_id = message.run.run_id
    return run_id, logged
