"""Files of a run directory: locked by one process, written atomically, resumed from the last good checkpoint."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from data.cache import take_lock
from glora.search import Member, Space
from runner.config.errors import ConfigError

log = logging.getLogger(f"glora.{__name__}")
WINNER = "winner.json"
"""A search's winner where it is none of its candidates."""


def write_json(path: Path, value: object) -> None:
    """Write so that the file is whole or absent, never half-written."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Atomic text write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)


def read_json(path: Path, *needs: str) -> Any:
    """Read JSON. Raises ConfigError naming the file if it is damaged, or no object with the keys `needs`."""
    try:
        found = json.loads(path.read_bytes())  # bytes: a mark before UTF-8, as editors put it, is known to json
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); move it away and run the same command again") from error
    lacking = [key for key in needs if not isinstance(found, dict) or key not in found]
    if lacking:
        raise ConfigError(f"{path} lacks {', '.join(lacking)}; move it away and run the same command again")
    return found


def read_best(folder: Path) -> Any:
    """What a search wrote of its winner when it was done. Raises ConfigError if the file is damaged."""
    return read_json(folder / "best.json", "search", "val_accuracy", "params", "images", "random_search")


def read_subnet(space: Space[Member], folder: Path, name: str) -> Member:
    """The winner that the search called `name` left in its folder. Raises ConfigError naming the file if it is not."""
    return _read_choice(space, folder / f"subnet_{name}.json")


def _read_choice(space: Space[Member], path: Path) -> Member:
    try:
        return cast(Member, space.from_json(path.read_text("utf-8-sig")))  # a soup goes wherever a subnet does
    except (ValueError, TypeError, AttributeError, OSError) as error:
        remedy = f"delete it and {path.with_name('best.json')}, and run search.py with the same overrides again"
        raise ConfigError(f"{path} holds no subnet of this model ({error}); {remedy}") from error


def read_winner(space: Space[Member], folder: Path) -> Member:
    """The winner of the search that the folder was made for. Raises ConfigError as its two files are read."""
    best = read_best(folder)
    if best.get("winner", "subnet") != "subnet":
        return _read_choice(space, folder / WINNER)
    return read_subnet(space, folder, best["search"])


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Atomic safetensors write; on the disk before the name is."""
    part = path.with_name(path.name + ".part")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    part.replace(path)


def _damaged(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{path} is damaged ({error}); delete it and train with the same overrides again")


def has_weights(path: Path) -> bool:
    """Whether a training left its weights here, whole. Raises ConfigError if they are cut short."""
    if not path.exists():
        return False
    try:
        with safe_open(path, "pt"):  # reads the list of tensors, and holds it against the file's length
            return True
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a finished training. Raises ConfigError if the file is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process, as `take_lock` does: a killed run never blocks its folder.

    Raises:
        ConfigError: if a living process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error.strerror}); set output_root=") from error
    with lock as stream:
        if not take_lock(stream, folder):
            stream.seek(0)
            owner = stream.read().strip() or "another process"
            raise ConfigError(f"{folder} is in use by {owner}; wait for it or change a word such as seed=1")
        stream.truncate(0)
        stream.write(f"process {os.getpid()}")
        stream.flush()
        yield


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a resume file, keeping the one before as `<name>.previous`."""
    part = path.with_name(path.name + ".part")
    torch.save(state, part)
    if path.exists():
        path.replace(path.with_name(path.name + ".previous"))
    part.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The newest readable resume file, or None; a damaged one is named in the log. Tensors and numbers only."""
    for candidate in (path, path.with_name(path.name + ".previous")):
        if not candidate.exists():
            continue
        try:
            # A run is not bound to the device that it began on; the optimiser moves its state to its parameters.
            state: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
            return state
        except Exception as error:  # noqa: BLE001 (torch raises many kinds for a truncated file)
            log.warning("%s is damaged (%s); trying the one before it", candidate, type(error).__name__)
    return None


def remove_checkpoints(path: Path) -> None:
    """Delete resume files of a finished phase."""
    for candidate in (path, path.with_name(path.name + ".previous")):
        candidate.unlink(missing_ok=True)
