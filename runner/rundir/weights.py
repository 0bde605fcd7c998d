"""Weights that a training left: written whole with a digest of their tensors, and read only if it holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from data.files import regular, write_bytes
from glora.state import digest, to_safetensors
from runner.config.errors import ConfigError

TRAIN_AGAIN = "delete it and train with the same overrides again"


def write_weights(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write safetensors, whole or not at all, with the digest of the tensors in the metadata."""
    write_bytes(path, to_safetensors(tensors))


def read_tensors(path: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors of a file that `write_weights` wrote; those of earlier versions carry no digest.

    Raises:
        ConfigError: naming the file and the remedy, if it is damaged.
    """
    try:
        open(path, "rb", opener=regular).close()  # the library would wait on a pipe
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            recorded = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path} is damaged ({error}); {remedy}") from error
    if recorded not in (None, digest(tensors)):
        raise ConfigError(f"{path} is damaged (its tensors are not those that were written); {remedy}")
    return tensors


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a finished training.

    Raises:
        ConfigError: as `read_tensors`, and if it holds what no training leaves.
    """
    tensors = read_tensors(path, TRAIN_AGAIN)
    odd = [n for n, t in tensors.items() if not t.is_floating_point() or not t.isfinite().all()]
    if odd:
        raise ConfigError(f"{path} is damaged ({odd[0]} holds what is no finite number); {TRAIN_AGAIN}")
    return tensors


def has_weights(path: Path) -> bool:
    """Whether a training left its weights here. Raises ConfigError as `read_weights` does."""
    return path.exists() and bool(read_weights(path))
