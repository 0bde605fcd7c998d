"""Checks that stand beside the field they are about: bounds and allowed values in a dataclass field's metadata."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping
from types import UnionType
from typing import Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints


class Dataclass(Protocol):
    """An instance of any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=Dataclass)


LARGEST_WHOLE, LARGEST = 2**31 - 1, 1e30
"""Bounds of every number, in both directions, where its field gives no closer one. Beyond 1e30 the arithmetic of an
optimiser leaves float32, by its own factors; a whole number beyond 31 bits is a slip of the finger.
"""


def number(
    default: Any,
    low: float | None = None,
    above: float | None = None,
    below: float = math.inf,
    high: float | None = None,
) -> Any:
    """A field whose number is at least `low` (or above `above`) and at most `high` (or below `below`); of a list, each.

    None, where the type allows it, passes.
    """
    rule = {"low": low, "above": above, "below": below, "high": high}
    if default is list:
        return dataclasses.field(default_factory=list, metadata=rule)
    return dataclasses.field(default=default, metadata=rule)


def choice(default: Any, allowed: Collection[str]) -> Any:
    """A field with one of these values, a registry's as they are when it is asked; None, where allowed, passes."""
    return dataclasses.field(default=default, metadata={"allowed": allowed})


def problems_of(value: Dataclass, prefix: str = "") -> Iterator[str]:
    """What a dataclass instance, and those inside it, hold against the metadata of their fields, a sentence each."""
    for field in dataclasses.fields(value):
        yield from _problems_in(getattr(value, field.name), f"{prefix}{field.name}", field.metadata)


def _problems_in(found: Any, name: str, rule: Mapping[str, Any]) -> Iterator[str]:
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        yield from problems_of(found, f"{name}.")
    elif isinstance(found, Mapping):  # of anything but dataclasses, whoever reads the values knows their bounds
        for key, value in found.items():
            if dataclasses.is_dataclass(value):
                yield from _problems_in(value, f"{name}.{key}", rule)
    elif isinstance(found, list):
        for i, value in enumerate(found if rule else ()):
            yield from _problems_in(value, f"{name}[{i}]", rule)
    elif found is not None:
        yield from _field_problems(name, found, rule)


def _field_problems(name: str, value: Any, rule: Mapping[str, Any]) -> Iterator[str]:
    if "allowed" in rule and value not in rule["allowed"]:
        yield f"{name}={value} is not {in_words(rule)}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    low, above, high, below = (rule.get(key) for key in ("low", "above", "high", "below"))
    largest = max(LARGEST_WHOLE if isinstance(value, int) else LARGEST, high or 0)
    if -largest <= value <= largest:  # compared, not asked for `isfinite`: a whole number may be too large for a float
        fits = (low is None or value >= low) and (above is None or value > above)
        if fits and (high is None or value <= high) and (below is None or value < below):
            return
    elif value > largest and high is None and below in (None, math.inf):
        high = largest
    yield f"{name}={value} must be {in_words({**rule, 'high': high}) or 'a finite number'}"


def in_words(rule: Mapping[str, Any]) -> str:
    """A field's metadata as messages and the documentation say it: "at least 1 and below 2"; "" where it has none."""
    if "allowed" in rule:
        return f"one of {', '.join(rule['allowed'])}"
    bounds = [("at least", "low"), ("above", "above"), ("at most", "high"), ("below", "below")]
    values = [(text, rule.get(key)) for text, key in bounds]
    listed = " and ".join(f"{text} {v:.10g}" for text, v in values if v is not None and math.isfinite(v))
    return "positive" if listed == "above 0" else listed


def build(kind: type[T], values: Mapping[str, Any], prefix: str) -> T:
    """The dataclass `kind` from a mapping of its keys, as a YAML gives it.

    Raises:
        ValueError: with every key that is unknown, missing, of another type, or against its metadata, a line each.
    """
    hints = get_type_hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    problems = [f"unknown key {prefix}{k}; known: {', '.join(fields)}" for k in values if k not in fields]
    required = [n for n, f in fields.items() if f.default is dataclasses.MISSING
                and f.default_factory is dataclasses.MISSING]  # fmt: skip
    problems += [f"{prefix}{name} is missing" for name in required if name not in values]
    for name, value in values.items():
        if name in fields and not _fits(value, hints[name]):
            problems.append(f"{prefix}{name}={value} is no {_type_name(hints[name])}")
        elif name in fields and value is not None:
            problems += _field_problems(f"{prefix}{name}", value, fields[name].metadata)
    if problems:
        raise ValueError("\n".join(problems))
    return kind(**values)


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if hint is Any:
        return True
    if origin is not None and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return all(_fits(part, get_args(hint)[1]) for part in value.values())
    if origin is not None:
        hint = origin
    if hint is float:
        return type(value) in (int, float)
    if hint in (int, bool):
        return type(value) is hint
    if hint is type(None):
        return value is None
    return isinstance(value, hint)


def _type_name(hint: Any) -> str:
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    names = {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "null"}
    return " or ".join(names.get(part, getattr(get_origin(part) or part, "__name__", str(part))) for part in parts)
