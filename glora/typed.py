"""JSON that is read back, as types: strict, finite, in range; what does not fit is a ValueError of one line."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

STRICT = ConfigDict(strict=True, allow_inf_nan=False, frozen=True, extra="ignore")
"""No text or truth value for a number, no NaN; keys that a reader does not know are passed over."""

Share = Annotated[float, Field(ge=0, le=1)]
"""An accuracy, or the share of something."""

Amount = Annotated[float, Field(ge=0)]
"""Seconds, megabytes, nats."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
"""How many of something; it fits 64 bits."""

LISTED = 5
"""Missing keys that are named at most."""

Value = TypeVar("Value")
Source = TypeVar("Source", bytes, str, dict[str, Any])


class Typed(BaseModel):
    """Base of what is read from JSON; attributes are the keys."""

    model_config = STRICT


def parse(validate: Callable[[Source], Value], source: Source) -> Value:
    """What `validate`, a method of a pydantic type such as `model_validate_json`, makes of `source`.

    An editor's mark before UTF-8 is passed over.

    Raises:
        ValueError: of one line, which names the key and what it holds.
    """
    if isinstance(source, bytes):
        source = source.removeprefix(b"\xef\xbb\xbf")
    elif isinstance(source, str):
        source = source.removeprefix("\ufeff")
    try:
        return validate(source)
    except ValidationError as error:
        raise ValueError(fault(error)) from error


def fault(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: 'has candidates.0.accuracy=1e+30 (input should be ...)'."""
    found = error.errors(include_url=False)
    missing = [_place(one["loc"]) for one in found if one["type"] == "missing"]
    if missing:
        return f"lacks {', '.join(missing[:LISTED])}{', ...' * (len(missing) > LISTED)}"
    first = found[0]
    said = first["msg"].removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return f"is no JSON ({said.removeprefix('Invalid JSON: ')})"
    if first["type"] == "value_error":  # one of ours, which says what it found
        return f"is wrong{' at ' * bool(first['loc'])}{_place(first['loc'])}: {said}"
    held = _one_line(reprlib.repr(first["input"]))
    return f"has {_place(first['loc'])}={held} ({said[0].lower()}{said[1:]})" if first["loc"] else f"is {held} ({said})"


def _place(loc: tuple[str | int, ...]) -> str:
    return ".".join(_one_line(str(part)) for part in loc)


def _one_line(text: str) -> str:
    shown = text if text.isprintable() else ascii(text)
    return shown if len(shown) <= 80 else f"{shown[:77]}..."
