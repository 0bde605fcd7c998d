"""What a user adds from outside the tree: Python files that register methods, searches, tasks or result columns."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from runner.config.errors import ConfigError


def load_plugins(paths: Sequence[str]) -> None:
    """Import each file of `plugins=[...]` once per process.

    Raises:
        ConfigError: naming the file, if it is not there or its import fails.
    """
    for text in paths:
        path = Path(text).expanduser().resolve()
        name = f"glora_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        if not path.is_file() or spec is None or spec.loader is None:
            raise ConfigError(f"plugins={text} is no Python file; give the path of one, as in plugins=[/my/method.py]")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise ConfigError(f"plugins={text} cannot be imported ({type(error).__name__}: {error})") from error
