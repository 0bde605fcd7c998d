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


def quoted(word: str) -> str:
    """`key=~/a,/é` as Hydra reads it, whose grammar takes "~" and letters beyond ASCII in quotes only.

    Raises:
        DataError: for the home folder of nobody.
    """
    key, equals, values = word.partition("=")
    if not equals or word.startswith("-") or any(mark in values for mark in "'\"[]{}()"):
        return word
    found = []
    for value in values.split(","):
        if value.startswith("~"):
            user_path(value, key)
        found.append(f"'{value}'" if value.startswith("~") or not value.isascii() else value)
    return f"{key}={','.join(found)}"


def parsed(words: list[str]) -> list[Override]:
    """The overrides among the words of a command line; flags, and what Hydra itself will refuse, are left out."""
    found = []
    for word in words:
        if "=" in word and not word.startswith("-"):
            try:
                found.append(OverridesParser.create().parse_override(word))
            except HydraException:
                continue
    return found


def values_of(words: list[str]) -> dict[str, Any]:
    """The value of every key that the overrides among the words set, the last one where a key is set twice."""
    return {o.key_or_group: o.value() for o in parsed(words) if not o.is_sweep_override()}


def known_keys(schema: type[Any], configs: Path) -> set[str]:
    """What a command line may set: the keys of a schema, the groups in a folder of configs, and Hydra's own."""
    return {"hydra", *(f.name for f in fields(schema)), *(path.name for path in configs.iterdir() if path.is_dir())}


def check_keys(words: list[str], keys: Collection[str], renamed: Mapping[str, str]) -> None:
    """Refuse keys that no part of the config has, before Hydra does so in many lines.

    Args:
        words: of the command line.
        keys: at the top of the config.
        renamed: today's spelling of keys that had another.

    Raises:
        ConfigError: a line for each.
    """
    problems = []
    for override in parsed(words):
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


def respelled(words: list[str], spelled: Mapping[str, str]) -> list[str]:
    """The words with keys by the names that the config has for them, and values as Hydra reads them."""
    found = []
    for word in map(quoted, words):
        key, equals, value = word.partition("=")
        found.append(f"{spelled.get(key, key)}{equals}{value}")
    return found


def gathering(words: list[str], place: Path) -> list[str]:
    """The words with several values made a sweep, as in `dataset=digits,textures`, whose record goes to `place`."""
    first = next((i for i, word in enumerate(words) if "=" in word and not word.startswith("-")), len(words))
    several = any(override.is_sweep_override() for override in parsed(words)) and not {"-m", "--multirun"} & {*words}
    # Hydra takes all overrides in one row: flags go before the first, or after the last.
    return [*["--multirun"] * several, *words[:first], f"hydra.sweep.dir='{place}'", *words[first:]]


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
