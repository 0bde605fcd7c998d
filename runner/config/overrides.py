"""What was typed: overrides as Hydra's own parser reads them, and its errors as one line each."""

from __future__ import annotations

import difflib
import inspect
import math
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import CompactHydraException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError

from data import DataError, get_task, user_path
from runner.config.errors import ConfigError

CONFIGS = Path(__file__).resolve().parent.parent.parent / "configs"
FREE = "backbone.kwargs"
OPEN = ("method.search", "method.grid", "method.published", "protocol.max_params", "hydra")
"""Parts of the config that take keys which they do not list, with a + before them."""
MOST_JOBS = 10_000


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
    """The overrides among the arguments of a command line; flags, and what Hydra itself will refuse, are left out.

    Raises:
        ConfigError: for one that Hydra's parser stumbles over.
    """
    found = []
    for arg in args:
        if ("=" in arg or arg.startswith("~")) and not arg.startswith("-"):
            try:
                found.append(OverridesParser.create().parse_override(arg))
            except HydraException:
                continue
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
                raise ConfigError(f"'{_short(arg)}' cannot be read ({_short(str(error))})") from error
    return found


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]} ..."


def values_of(args: list[str]) -> dict[str, Any]:
    """The value of every key that the overrides among the arguments set, the last one where a key is set twice."""
    return {o.key_or_group: o.value() for o in parsed(args) if not o.is_sweep_override()}


def known_keys(schema: type[Any], configs: Path) -> set[str]:
    """What a command line may set: the keys of a schema, the groups in a folder of configs, and Hydra's own."""
    return {"hydra", *(f.name for f in fields(schema)), *(path.name for path in configs.iterdir() if path.is_dir())}


def check_keys(args: list[str], keys: Collection[str], renamed: Mapping[str, str], configs: Path = CONFIGS) -> None:
    """Refuse keys that no part of the config has, and values of groups that are no names, before Hydra does, which has
    many lines for the ones and a traceback for the others.

    Args:
        args: of the command line.
        keys: at the top of the config.
        renamed: today's spelling of keys that had another.
        configs: the folder whose folders are groups.

    Raises:
        ConfigError: a line for each.
    """
    overrides = parsed(args)
    problems = list(_sweep_problems(overrides))
    for override in overrides:
        key = override.key_or_group.partition("@")[0]
        if key in renamed:
            problems.append(f"{key}= is now {renamed[key]}=, as everywhere; type {renamed[key]}={_text(override)}")
        elif not override.is_add() and key.partition(".")[0].partition("/")[0] not in keys:
            problems.append(f"unknown key {key}={_short(_text(override))}; {meant(key, sorted(keys))}")
        elif (configs / key).is_dir() or key.partition("/")[0] == "hydra":
            problems += _group_problems(key, override)
    if problems:
        raise ConfigError("\n".join(problems))


def _group_problems(group: str, override: Override) -> Iterator[str]:
    """What is wrong with the value of a group, which is a name; a mapping or null is for the keys that it fills."""
    value = None if override.is_sweep_override() else override.value()
    if isinstance(value, list) and group.partition("/")[0] != "hydra":
        yield f"{group}={_text(override)} is a list, and one {group} is taken; sweep with -m {group}=<one>,<other>"
    elif not isinstance(value, (str, dict, list, NoneType)):
        yield f"{group}={_text(override)} is no name of a {group}; leave it out, or choose one of those in --help"


def _sweep_problems(overrides: list[Override]) -> Iterator[str]:
    """A sweep that Hydra would list, job by job, until the memory is full."""
    jobs = 1.0
    for override in overrides:
        sweep = override.value() if override.is_sweep_override() else None
        if isinstance(sweep, ChoiceSweep):
            jobs *= max(1, len(sweep.list))
        elif isinstance(sweep, RangeSweep):
            try:
                jobs *= max(1.0, (float(sweep.stop or 0) - float(sweep.start or 0)) / float(sweep.step))
            except (OverflowError, ZeroDivisionError):
                jobs = math.inf
    if not jobs <= MOST_JOBS:  # NaN too
        yield f"a sweep of {jobs:.3g} jobs is more than {MOST_JOBS:,}; sweep over fewer values"


def _text(override: Override) -> str:
    return (override.input_line or "").partition("=")[2]


def respelled(args: list[str], spelled: Mapping[str, str]) -> list[str]:
    """The arguments with keys by the names that the config has for them, and values as Hydra reads them.

    What `backbone.kwargs` holds depends on the backbone, which a sweep over data sets changes: whether a key is in it
    before, as Hydra's + and its absence say, is not the user's to know.
    """
    found = []
    for arg in map(quoted, args):
        key, equals, value = arg.partition("=")
        name = key.lstrip("+")
        key = f"++{name}" if equals and name.startswith(FREE) and name[len(FREE) :][:1] in ("", ".") else key
        found.append(f"{spelled.get(key, key)}{equals}{value}")
    return found


def gathering(args: list[str], directory: Path) -> list[str]:
    """The arguments with several values made a sweep, as in `dataset=digits,textures`, recorded in `directory`."""
    first = next((i for i, arg in enumerate(args) if "=" in arg and not arg.startswith("-")), len(args))
    several = any(override.is_sweep_override() for override in parsed(args)) and not {"-m", "--multirun"} & {*args}
    # Hydra takes all overrides in one row: flags go before the first, or after the last.
    return [*["--multirun"] * several, *args[:first], f"hydra.sweep.dir='{directory}'", *args[first:]]


@contextmanager
def composing(task: Callable[..., object], args: list[str]) -> Iterator[None]:
    """What Hydra stumbles over around `task`, its composition and its folders, as ConfigError.

    Args:
        task: what `hydra.main` decorated; what is raised inside it passes.
        args: of the command line.
    """
    try:
        yield
    except (ConfigError, CompactHydraException, BrokenProcessPool):  # the last: of a launcher, after composing
        raise
    except Exception as error:
        code = inspect.unwrap(task).__code__
        if any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise
        if isinstance(error, OSError):
            places = ", ".join(arg for arg in args if arg.lstrip("+").startswith(("hydra.", "output_root=")))
            where = f" (given: {_short(places)})" if places else "; set output_root= to a folder that can be written"
            raise ConfigError(f"{error.filename}: {error.strerror}{where}") from error
        cause = " ".join(str(error).split())
        given = _short(" ".join(args))
        raise ConfigError(f"the config cannot be composed ({type(error).__name__}: {_short(cause)}); "
                          f"given: {given}") from error  # fmt: skip


def explain(error: CompactHydraException) -> str:
    """What Hydra found wrong with a command line, in one line."""
    if isinstance(error, OverrideParseException):
        reason = str(error).splitlines()[1:2]
        return f"'{error.override}' is not key=value as in dataset=digits ({' '.join(reason) or 'it cannot be read'})"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return unknown_choice(group, name, list(error.options))
    cause = error.__cause__
    if str(error).startswith("Could not override") and isinstance(cause, (ConfigAttributeError, ConfigKeyError)):
        return _unknown_key(error, cause)
    why = str(cause or "").partition("\n    full_key")[0]
    text = str(error).partition("\n    full_key")[0]
    lines = [text.removeprefix("Error merging override "), *([] if why in text else [why])]
    return " ".join(": ".join(lines).split())


def _unknown_key(error: CompactHydraException, cause: ConfigAttributeError | ConfigKeyError) -> str:
    """That a part of the config has no such key, and what may be meant."""
    given, node = str(cause.full_key), cause.parent_node
    above, _, last = given.rpartition(".")
    known = [str(key) for key in node] if isinstance(node, DictConfig) else []
    hint = meant(last, known, f"{above}.", f" of {above}") if known else f"{above} has no keys"
    # Hydra's second line: the same override with a plus.
    new = f"; a new one takes a +: {str(error).rpartition('use ')[2].strip()}" if above.startswith(OPEN) else ""
    return f"unknown key {given}; {hint}{new}"


def meant(key: str, known: Collection[str], above: str = "", of: str = "") -> str:
    """What to type instead of an unknown key: the nearest of the known ones below `above`, or one of them all."""
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {above}{near[0]}=?" if near else f"known keys{of}: {', '.join(known)}"


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
