"""What was typed: overrides as Hydra's own parser reads them, and its errors as one line each."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import CompactHydraException, HydraException, MissingConfigException, OverrideParseException

from data import DataError, get_task, user_path
from runner.config.errors import ConfigError

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"


def quoted(arg: str) -> str:
    """`key=~/a,/é` as Hydra reads it, whose grammar takes "~" and letters beyond ASCII in quotes only.

    Raises:
        DataError: for the home directory of nobody.
    """
    key, equals, values = arg.partition("=")
    if not equals or arg.startswith("-") or any(c in values for c in "'\"[]{}()"):
        return arg
    found = []
    for value in values.split(","):
        if value.startswith("~"):
            user_path(value, key)
        found.append(f"'{value}'" if value.startswith("~") or not value.isascii() else value)
    return f"{key}={','.join(found)}"


def parsed(args: list[str]) -> list[Override]:
    """The overrides among the arguments of a command line; flags, and what Hydra itself will refuse, are left out."""
    found = []
    for arg in args:
        if "=" in arg and not arg.startswith("-"):
            try:
                found.append(OverridesParser.create().parse_override(arg))
            except HydraException:
                continue
    return found


def values_of(args: list[str]) -> dict[str, Any]:
    """The value of every key that the overrides among the arguments set, the last one where a key is set twice."""
    return {o.key_or_group: o.value() for o in parsed(args) if not o.is_sweep_override()}


def known_keys(schema: type[Any], configs: Path) -> set[str]:
    """What a command line may set: the keys of a schema, the groups in a folder of configs, and Hydra's own."""
    return {"hydra", *(f.name for f in fields(schema)), *(path.name for path in configs.iterdir() if path.is_dir())}


def check_keys(args: list[str], keys: Collection[str], renamed: Mapping[str, str]) -> None:
    """Refuse keys that no part of the config has, before Hydra does so in many lines.

    Args:
        args: of the command line.
        keys: at the top of the config.
        renamed: today's spelling of keys that had another.

    Raises:
        ConfigError: a line for each.
    """
    problems = []
    for override in parsed(args):
        key = override.key_or_group.partition("@")[0]
        if key in renamed:
            problems.append(f"{key}= is now {renamed[key]}=, as everywhere; type {renamed[key]}={_text(override)}")
        elif not override.is_add() and key.partition(".")[0].partition("/")[0] not in keys:
            near = difflib.get_close_matches(key, keys, 1)
            hint = f"did you mean {near[0]}=?" if near else f"known keys: {', '.join(sorted(keys))}"
            problems.append(f"unknown key {key}={_text(override)}; {hint}")
    if problems:
        raise ConfigError("\n".join(problems))


def _text(override: Override) -> str:
    return (override.input_line or "").partition("=")[2]


def respelled(args: list[str], spelled: Mapping[str, str]) -> list[str]:
    """The arguments with keys by the names that the config has for them, and values as Hydra reads them."""
    found = []
    for arg in map(quoted, args):
        key, equals, value = arg.partition("=")
        found.append(f"{spelled.get(key, key)}{equals}{value}")
    return found


def gathering(args: list[str], directory: Path) -> list[str]:
    """The arguments with several values made a sweep, as in `dataset=digits,textures`, recorded in `directory`."""
    first = next((i for i, arg in enumerate(args) if "=" in arg and not arg.startswith("-")), len(args))
    several = any(override.is_sweep_override() for override in parsed(args)) and not {"-m", "--multirun"} & {*args}
    # Hydra takes all overrides in one row: flags go before the first, or after the last.
    return [*["--multirun"] * several, *args[:first], f"hydra.sweep.dir='{directory}'", *args[first:]]


def explain(error: CompactHydraException) -> str:
    """What Hydra found wrong with a command line, in one line."""
    if isinstance(error, OverrideParseException):
        reason = str(error).splitlines()[1:2]
        return f"'{error.override}' is not key=value as in dataset=digits ({' '.join(reason) or 'it cannot be read'})"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return unknown_choice(group, name, list(error.options))
    cause = str(error.__cause__ or "").partition("\n    full_key")[0]
    text = str(error).partition("\n    full_key")[0]
    lines = [text.removeprefix("Error merging override "), *([] if cause in text else [cause])]
    return " ".join(": ".join(lines).split())


def unknown_choice(group: str, name: str, options: list[str]) -> str:
    """That `group=name` is none of the options, and what may be meant."""
    if not name.strip():
        return f"{group}= has no value; type for example {group}={'digits' if group == 'dataset' else options[0]}"
    if group == "dataset":
        try:
            get_task(name)
        except DataError as error:
            return str(error)
    near = difflib.get_close_matches(name, options, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"unknown {group} '{name}'.{hint} Available: {', '.join(options)}"
