"""Resume files: two of them, the newest that is sound and fits counts, and whatever is passed over is named."""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from data.base import DataError, error_text
from data.files import read_bytes, remove_temporaries, writing

log = logging.getLogger(f"glora.{__name__}")
SEAL = b"sha256:"
"""Begins the comment behind torch's zip archive, with the digest of all bytes before it."""
SEAL_BYTES = len(SEAL) + 64

State = dict[str, Any]
"""Tensors, numbers and text, in dicts and lists."""


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".previous")


def save_checkpoint(path: Path, state: State) -> None:
    """Write a resume file, keeping the one before as `<name>.previous`; `torch.load` reads it."""
    stream = io.BytesIO()
    torch.save(state, stream)
    content = stream.getbuffer()
    content[-2:] = SEAL_BYTES.to_bytes(2, "little")  # a zip archive ends with the length of its comment, none so far
    with writing(path) as part, part.open("wb") as file:
        file.write(content)
        file.write(SEAL + hashlib.sha256(content).hexdigest().encode())
        if path.exists():
            path.replace(_previous(path))


def load_checkpoint(path: Path, restore: Callable[[State], object]) -> bool:
    """Hand the newest resume file that is sound and fits to `restore`; False where there is none, and all is as it was.

    Args:
        path: the newest one.
        restore: continues from a state; one that does not fit it must refuse with any exception and change nothing.
    """
    remove_temporaries(path)
    found = [file for file in (path, _previous(path)) if file.exists()]
    for file in found:
        try:
            restore(_read(file))
        except (DataError, PermissionError, MemoryError, torch.OutOfMemoryError):  # not the file's content
            raise
        except Exception as error:  # noqa: BLE001 (torch raises many kinds for damaged files, `restore` for odd states)
            cause = f"{type(error).__name__}: {error_text(error).splitlines()[0]}"
            then = f"going on from {found[-1]}" if file != found[-1] else "beginning anew"
            log.warning("%s cannot be continued (%s); %s", file, cause, then)
        else:
            if file != path:
                file.replace(path)  # or the next one written would push it out in favour of the one passed over
            return True
    return False


def _read(path: Path) -> State:
    """The state of a resume file; those of earlier versions carry no digest."""
    content = read_bytes(path)
    body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    if seal.startswith(SEAL) and seal != SEAL + hashlib.sha256(body).hexdigest().encode():
        raise ValueError("it is damaged: its digest is not the one recorded")
    # A run is not bound to the device that it began on; the optimiser moves its state to its parameters.
    state: State = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def remove_checkpoints(path: Path) -> None:
    """Delete the resume files of a finished phase, and what killed writers left of them."""
    remove_temporaries(path)
    for file in (path, _previous(path)):
        file.unlink(missing_ok=True)
