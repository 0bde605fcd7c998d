"""Files of a run that are damaged so that nobody notices: the same length, valid syntax; or links where they were.

A stage runs on the damaged folder. It may refuse it in one line, or come to the results that it has without damage.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tools.torture.children import run
from tools.torture.fingerprint import difference, fingerprint
from tools.torture.sandboxes import Sandboxes

LIMIT = 60.0
AFTER = (("train", "half_train"), ("search", "half_search"), ("grid", "half_grid"), ("search", "train"),
         ("measure", "tune"), ("export", "tune"), ("tune", "tune"), ("measure", "measure"))  # fmt: skip
"""Stages, and the states that they find: what is read back, by whom."""
SUFFIXES = {"documents": (".json", ".jsonl", ".csv"), "weights": (".safetensors",), "checkpoints": (".pt", ".previous")}
STATES = {"checkpoints": ("half_train",)}
STRANGE: tuple[Any, ...] = (None, "", "x", [], {}, [[]], {"a": 1}, True, -1, -1.0, 1e30, float("nan"), float("inf"),
                            10**400, "lora_64", "NaN", "1", [1, 2, 3], "\ud800", "../x")  # fmt: skip


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [leaf for key, item in inner for leaf in _leaves(item, (*path, key))]


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _shape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_shape(v) for v in value]
    return type(value).__name__


def damage_document(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """One place of a JSON (or of a line of one) changed, or bits of the text."""
    lines = content.splitlines(keepends=True)
    whole = len(lines) < 2 or lines[0].strip() in (b"{", b"[")
    at = 0 if whole or not lines else rng.randrange(len(lines))
    text = content if whole else lines[at]
    try:
        value = json.loads(text)
    except ValueError:
        return flip(content, rng)
    if rng.random() < 0.35 or not _leaves(value):
        return flip(content, rng)
    *outer, last = rng.choice(_leaves(value))
    place = value
    for key in outer:
        place = place[key]
    if rng.random() < 0.2:
        done = f"without {last!r}"
        del place[last]
    elif rng.random() < 0.05:
        done = f"{last!r} nested 100,000 deep"
        place[last] = "@"
    else:
        place[last], old = rng.choice(STRANGE), place[last]
        done = f"{last!r} {old!r:.30} becomes {place[last]!r:.30}"
    changed = json.dumps(value, indent=2).replace('"@"', "[" * 100_000 + "]" * 100_000).encode(errors="replace")
    lines[at : at + 1] = [changed.replace(b"\n", b"") + b"\n"]
    return (changed + b"\n" if whole else b"".join(lines)), done


def flip(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """One to three bits, a digit for another, a cut, or bytes of another place; the length mostly stays."""
    out, kind = bytearray(content), rng.choice(("bits", "bits", "bits", "digit", "cut", "copy", "zeros"))
    if not out:
        return b"x", "a byte in an empty file"
    at = rng.randrange(len(out))
    if kind == "bits":
        for _ in range(rng.randint(1, 3)):
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    elif kind == "digit" and (digits := [i for i, byte in enumerate(out) if 48 <= byte < 58]):
        at = rng.choice(digits)
        out[at] = rng.choice(b"0123456789")
    elif kind == "cut":
        del out[at:]
    else:
        size = rng.randint(1, 64)
        source = bytes(size) if kind == "zeros" else bytes(out[rng.randrange(len(out)) :][:size])
        out[at : at + size] = source[: len(out) - at]
        out = out[: len(content)]
    return bytes(out), f"{kind} at {at}"


def rewrite(path: Path, rng: random.Random) -> str:
    """A valid safetensors file with other numbers: NaN, another dtype, other names, one tensor less, negative signs."""
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    edits: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
        "NaN": lambda t: t * torch.nan, "negated": lambda t: -t, "float16": lambda t: t.half(),
        "missing": lambda t: None,
        "float64": lambda t: t.double(), "integers": lambda t: t.long(), "shorter": lambda t: t[..., :-1].contiguous(),
        "huge": lambda t: t + 1e30, "zero": lambda t: t * 0,
    }  # fmt: skip
    edit = rng.choice(sorted(edits))
    changed = edits[edit](tensors.pop(name))
    save_file({**tensors, **({} if changed is None else {name: changed})}, path, metadata)
    return f"{name} {edit}"


def link(path: Path, folder: Path, rng: random.Random) -> str:
    """A link to a file of somebody else's, to itself, a pipe or a folder, where a file is, or where one is written."""
    near = rng.choice((path, path, path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.tmp"),
                       path.with_name(".lease-1"), path.with_name("metrics.jsonl"), path.with_name("train.log"),
                       path.with_name("search.log"), path.with_name("config.json")))  # fmt: skip
    kind = rng.choice(("link out", "link out", "pipe", "loop", "folder"))
    if near.is_file() or near.is_symlink():
        near.unlink()
    if near.is_dir():
        return "nothing"
    if kind == "link out":
        (folder / "victim").mkdir(exist_ok=True)
        (folder / "victim" / "x").write_text("somebody else's\n")
        near.symlink_to(folder / "victim" / "x")
    elif kind == "pipe":
        os.mkfifo(near)
    elif kind == "loop":
        near.symlink_to(near)
    else:
        near.mkdir()
    return f"{kind} as {near.name}"


def case(boxes: Sandboxes, seed: int, group: str) -> tuple[str, str, str]:
    """Damage a file of `group` (or "links": any) and run a stage; what was done, its kind and why."""
    rng = random.Random(f"{group} {seed}")
    stage, state = rng.choice([pair for pair in AFTER if pair[1] in STATES.get(group, (pair[1],))])
    with boxes.sandbox(state) as folder:
        suffixes = SUFFIXES.get(group, sum(SUFFIXES.values(), ()))
        roots = ("out",) if group == "links" else ("out", "data")
        files = sorted(p for root in roots for p in (folder / root).rglob("*") if p.suffix in suffixes and p.is_file())
        path = rng.choice(files)
        mild = False
        if group == "links":
            done = link(path, folder, rng)
        elif group == "weights" and rng.random() < 0.5:
            done = rewrite(path, rng)
        else:
            before = path.read_bytes()
            after, done = (damage_document if group == "documents" else flip)(before, rng)
            path.write_bytes(after)
            mild = group == "documents" and alike(before, after)
        ended = run(boxes.task(stage), folder, LIMIT, allowed=("out", "data"))
        kind, detail = ended.kind()
        if (folder / "victim").exists() and (folder / "victim" / "x").read_text() != "somebody else's\n":
            kind, detail = "outside", f"written through {done}"
        name = str(path.relative_to(folder / "out")) if path.is_relative_to(folder / "out") else None
        if kind == "identical" and not mild and group != "links":
            expected = boxes.references[stage, state]
            other = difference(fingerprint(folder / "out", exact=state == stage), expected, name)
            if other is not None:
                told = any(path.name in line and "error" not in line for line in ended.output.splitlines()
                           if "damaged" in line or "cannot be read" in line or "is no" in line)  # fmt: skip
                told |= other.endswith(".png is missing") and "no picture" in ended.output
                kind, detail = ("named", other) if told else ("silent", other)
    return f"{stage} after {path.name}: {done}", kind, detail


def alike(before: bytes, after: bytes) -> bool:
    """Whether a damaged document is one that might have been written: another value of the same type in a place.

    Nobody can tell it from the true one without a digest, which records that people read and edit do not have.
    """
    try:
        one, two = (json.loads(content, parse_constant=_refuse) for content in (before, after))
    except (ValueError, RecursionError):
        return before == after
    return bool(_shape(one) == _shape(two)) and not any(n < 0 or n > 1e15 for n in _numbers(two))


def _refuse(text: str) -> float:
    raise ValueError(text)


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return [n for item in inner for n in _numbers(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
