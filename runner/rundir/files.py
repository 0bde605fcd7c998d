"""A run directory: held by one process, free of what killed ones left, and its JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from data.files import TEMPORARY, write_text
from runner.config.errors import ConfigError
from runner.rundir.lease import leased


def write_json(path: Path, value: object) -> None:
    """Write so that the file is whole or absent, never half-written."""
    write_text(path, json.dumps(value, indent=2) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process (`leased`): a killed run never blocks its folder for long.

    What killed ones left there under temporary names is removed.

    Raises:
        Held: if a living process holds it.
        ConfigError: if it cannot be written, or a folder in it is a link.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(leased(folder))
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written ({error.strerror}); set output_root=") from error
        _tidy(folder)
        yield


def _tidy(folder: Path) -> None:
    """Remove what killed writers left below a folder that is locked, hence has no other writer.

    Raises:
        ConfigError: if a folder below is a link: what is written into it would go elsewhere.
    """
    for here, folders, names in os.walk(folder):
        for name in folders:
            if Path(here, name).is_symlink():
                raise ConfigError(f"{Path(here, name)} is a link, through which nothing is written; put a folder there")
        folders[:] = [name for name in folders if name != "wandb"]  # W&B's own
        for name in names:
            if name.endswith((TEMPORARY, ".tmp")):
                Path(here, name).unlink(missing_ok=True)
