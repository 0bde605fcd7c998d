"""Measure speed: `python benchmark.py train backbone=vit_b16 ranks=[8,4]`, and what else the list names.

    data     images=1000 size=375x500 repeats=5          decoding and cached epochs against ImageFolder + DataLoader
    train    backbone=vit_micro ranks=[8,4] batch=64 device=cpu precision=fp32 repeats=5      a supernet step
    search   the same words        a candidate of a search, merge, inference of the merged model
    profile  the same words        where the time of a step goes
    growth   the same words        cost with images, rank, layers and population; plot=FILE.png draws it (ViTs)

json=FILE keeps the record. Everything that is compared runs in turn in one process; read the ratios, not the times.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
from timm.models.vision_transformer import VisionTransformer

from data import DataError, user_path
from glora import Supernet
from glora.options import check_ranks
from runner.bench.data import data_lines, measure_data
from runner.bench.growth import growth_lines, measure_growth, plot_growth
from runner.bench.model import measure_search, measure_train
from runner.bench.profile import measure_profile
from runner.bench.setting import MODELS, Setting, lines
from runner.config.compute import PRECISIONS, devices, use_tf32
from runner.report.plots import attempt
from runner.rundir.files import write_json
from runner.tracking.memory import keep_freed_memory
from runner.tracking.progress import print_anything

DATA = {"images": "1000", "size": "375x500", "repeats": "5", "json": ""}
MODEL = {"backbone": "vit_micro", "ranks": "[8,4]", "batch": "64", "device": "cpu", "precision": "fp32",
         "repeats": "5", "json": ""}  # fmt: skip
COMMANDS = {"data": DATA, "train": MODEL, "search": MODEL, "profile": MODEL, "growth": {**MODEL, "plot": ""}}
MEASURES: dict[str, Callable[[Setting, int], dict[str, Any]]] = {
    "train": measure_train,
    "search": measure_search,
    "profile": measure_profile,
    "growth": measure_growth,
}


class UsageError(Exception):
    """The words are wrong; the message says what is allowed."""


def _number(given: dict[str, str], key: str, low: int) -> int:
    if not given[key].isdecimal() or int(given[key]) < low:
        raise UsageError(f"{key}={given[key]} must be a number of at least {low}")
    return int(given[key])


def parse(words: list[str]) -> tuple[str, dict[str, str]]:
    """The command and its words with defaults. Raises UsageError."""
    if not words or words[0] not in COMMANDS:
        raise UsageError(f"what to measure is one of {', '.join(COMMANDS)}")
    given = dict(COMMANDS[words[0]])
    for word in words[1:]:
        key, equals, value = word.partition("=")
        if key not in given or not equals:
            raise UsageError(f"unknown word '{word}'; {words[0]} takes {', '.join(f'{k}=' for k in given)}")
        try:
            given[key] = str(user_path(value, key)) if key in ("json", "plot") and value else value
        except DataError as error:
            raise UsageError(str(error)) from error
    return words[0], given


def model_setting(given: dict[str, str]) -> Setting:
    """The setting of train and search. Raises UsageError."""
    device, known = given["device"], [name for name in devices() if name != "auto"]
    for key, value, allowed in (("precision", given["precision"], PRECISIONS), ("device", device, known)):
        if value not in allowed:
            raise UsageError(f"{key}={value} is not one of {', '.join(allowed)}")
    if given["backbone"] not in MODELS and not timm.is_model(given["backbone"]):
        raise UsageError(f"backbone={given['backbone']} is not one of {', '.join(MODELS)} or a name of timm's")
    try:
        ranks = check_ranks([int(r) for r in given["ranks"].strip("[]").split(",")])
    except ValueError as error:
        raise UsageError(f"ranks={given['ranks']}: {error}") from error
    return Setting(given["backbone"], ranks, _number(given, "batch", 1), device, given["precision"])


def _check_backbone(setting: Setting, command: str) -> None:
    model = setting.model()
    if command == "growth" and not isinstance(model, VisionTransformer):
        raise UsageError(f"backbone={setting.backbone} is not a ViT, whose number of blocks growth varies")
    try:
        Supernet(model, setting.ranks)
    except ValueError as error:
        raise UsageError(f"backbone={setting.backbone}: {error}") from error


def measure(command: str, given: dict[str, str]) -> tuple[dict[str, Any], list[str]]:
    """The record and the lines of its table. Raises UsageError."""
    repeats = _number(given, "repeats", 1)
    if command == "data":
        height, _, width = given["size"].partition("x")
        if not (height.isdecimal() and width.isdecimal() and min(int(height), int(width)) >= 32):
            raise UsageError(f"size={given['size']} must be HEIGHTxWIDTH, at least 32x32")
        found = measure_data(_number(given, "images", 136), int(height), int(width), repeats)
        return found, data_lines(found)
    setting = model_setting(given)
    _check_backbone(setting, command)
    found = MEASURES[command](setting, repeats)
    if given.get("plot"):
        attempt(plot_growth, Path(given["plot"]), found)
    return found, growth_lines(found) if command == "growth" else lines(found)


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    print_anything()
    if words in (["help"], ["-h"], ["--help"]):
        print((__doc__ or "").strip())
        return 0
    try:
        use_tf32(False)
        keep_freed_memory()  # as a run does
        command, given = parse(words)
        found, table = measure(command, given)
    except UsageError as error:
        print(f"benchmark.py: {error}\nusage: python benchmark.py help", file=sys.stderr)
        return 2
    print(*table, sep="\n")
    if given["json"]:
        write_json(Path(given["json"]), found)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
