"""Prepare data sets, or say what they need.

    python prepare.py                       status of every task (source=tfds, source=noah: what that source needs)
    python prepare.py dataset=digits        make one task (several: dataset=digits,textures)
    python prepare.py sweep=mini            make a suite
    python prepare.py dataset=dtd source=noah    a VTAB task from source=raw, tfds or noah (default raw)
A VTAB task is decoded once into a cache, from what lies under the data root: raw/<data set>/, tfds/ or vtab-1k/, or in
source_root=PATH. codec=jpeg75 sends images through a JPEG round trip first, resize=tf1_bilinear is the official resize.
Raw archives that are missing are downloaded where that is possible (download=no: never; above 10 GB: only with
download=yes). Few-shot and domain-generalisation sets (sweep=few_shot, sweep=domain_generalization) are read from
NOAH's lists and your images in noah/; shots=1,4 and list_seed=0 say which lists, size=64 is for another backbone.
A missing copy of source=tfds is built only with build=yes, which needs TensorFlow.
Add data_root=PATH to use another place than $GLORA_DATA or ~/.cache/glora.

Exit status: 0 when all that was asked for is ready, 1 when a task is not, 2 when the words are wrong.
"""

from __future__ import annotations

import difflib
import logging
import shutil
import sys
from functools import partial
from pathlib import Path

from data import SUITES, DataError, default_data_root, get_task, user_path
from data.archives import still_to_fetch, unpack
from data.base import MissingCopy, MissingData, TaskInfo
from data.build import build, homes, split_path, variant
from data.download import fetch
from data.images import CODECS, RESIZES
from data.mini_cache import build_mini, mini_path, mini_ready
from data.shot_table import LIST_SEEDS, SHOT_ROWS, SHOTS, ShotRow
from data.shots import SOURCE_FOLDER, build_shots, eval_path, shots_instructions
from data.sources.raw import raw_folder
from data.sources.tfds_build import build_copy
from data.status import mini_line, status_lines, vtab_instructions
from data.vtab_table import VTAB_SOURCES
from runner.tracking.progress import print_anything
from runner.tracking.terminal import quiet_end

EXAMPLES = {"dataset": "dataset=digits", "sweep": "sweep=mini", "data_root": "data_root=/my/data",
            "source": "source=noah", "source_root": "source_root=/my/vtab-1k", "codec": "codec=jpeg75",
            "resize": "resize=tf1_bilinear", "download": "download=yes", "shots": "shots=4", "list_seed": "list_seed=0",
            "size": "size=224", "build": "build=yes"}  # fmt: skip
KEYS = tuple(EXAMPLES)
CHOICES = {
    "source": VTAB_SOURCES,
    "codec": CODECS,
    "resize": RESIZES,
    "download": ("yes", "no"),
    "build": ("yes", "no"),
}
NUMBERS = {"shots": SHOTS, "list_seed": LIST_SEEDS, "size": range(16, 1025)}
DEFAULTS = {"source": "raw", "codec": "raw", "resize": "bicubic"}
BIG = 10.0
"""Gigabytes above which a download has to be asked for."""


def parse_words(words: list[str]) -> dict[str, str]:
    """``key=value`` words as a dict; raises DataError on anything else, on unknown keys and on repetition."""
    found: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in KEYS:
            near = difflib.get_close_matches(key.lstrip("-"), KEYS, n=1)
            hint = f" Did you mean {near[0]}=?" if near else ""
            raise DataError(
                f"unknown word '{word}'.{hint} Allowed: dataset=ID[,ID...], sweep=SUITE, data_root=PATH, "
                "source=, source_root=, codec=, resize=, download=, build=, shots=, list_seed=, size=, "
                "or no word for the status of all tasks"
            )
        if not equals or not value.strip():
            raise DataError(f"'{word}' has no value; type for example {EXAMPLES[key]}")
        if key in found:
            raise DataError(f"{key}= is given twice ({found[key]} and {value}); separate data sets by commas")
        found[key] = value.strip()
        if key in NUMBERS:
            numbers = found[key].split(",") if key != "size" else [found[key]]
            if not all(n.isdecimal() and int(n) in NUMBERS[key] for n in numbers):
                allowed = "16 to 1024" if key == "size" else ", ".join(map(str, NUMBERS[key]))
                raise DataError(f"{key}={found[key]} is not allowed; choose from {allowed}")
        if key in CHOICES and found[key] not in CHOICES[key]:
            raise DataError(f"unknown {key} '{found[key]}'; choose one of {', '.join(CHOICES[key])}")
    return found


def chosen_tasks(words: dict[str, str]) -> list[TaskInfo]:
    """The tasks named by dataset= and sweep=, each once, in the order given; raises DataError on unknown names."""
    ids: list[str] = []
    for suite in filter(None, (part.strip() for part in words.get("sweep", "").split(","))):
        if suite not in SUITES:
            near = difflib.get_close_matches(suite, SUITES, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise DataError(f"unknown sweep '{suite}'.{hint} Available: {', '.join(SUITES)}")
        ids += SUITES[suite]
    ids += [part.strip() for part in words.get("dataset", "").split(",") if part.strip()]
    return [get_task(task_id) for task_id in dict.fromkeys(ids)]


def show_progress(name: str, done: int, total: int, scale: float = 1, unit: str = "") -> None:
    """Count on a terminal, in units of ``scale``; silent elsewhere."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r  {name}: {done / scale:.0f}/{total / scale:.0f}{unit}", end=end, file=sys.stderr, flush=True)


def fetch_missing(folder: Path, big: bool, reason: DataError) -> bool:
    """Download and unpack the archives of a raw folder; False where it has none or all are there already.

    Says what it will do first. Above 10 GB it does so only when told to (``big``). Raises DataError.
    """
    todo = still_to_fetch(folder)
    if not todo:
        return False
    gigabytes, home = sum(file.size for file in todo) / 1e9, folder
    while not home.exists():
        home = home.parent
    free = shutil.disk_usage(home).free / 1e9
    print(
        f"{reason}\nfetching {len(todo)} file(s), {gigabytes:.2f} GB, into {folder} ({free:.0f} GB free; unpacked "
        f"about as much again; {gigabytes * 8000 / 100 / 60:.0f} min at 100 Mbit/s)",
        flush=True,
    )
    if gigabytes > BIG and not big:
        raise DataError(f"{gigabytes:.1f} GB is a big download; add download=yes to start it (it resumes if stopped)")
    if 2 * gigabytes > free:
        raise DataError(
            f"{2 * gigabytes:.1f} GB are needed but {free:.1f} GB are free; point data_root= to another disk"
        )
    for file in todo:
        fetch(file, folder, progress=partial(show_progress, scale=1e6, unit=" MB"))
        unpack(file, folder)
    return True


def given_root(words: dict[str, str]) -> Path | None:
    """The folder of source_root=."""
    return user_path(words["source_root"], "source_root") if "source_root" in words else None


def build_or_fetch(task: TaskInfo, data_root: Path, given: dict[str, str], words: dict[str, str]) -> bool:
    """Build the cache of a VTAB task, after a download where raw files are missing and may be fetched, or after a
    build of the copy of source=tfds where that is missing and asked for.

    ``given`` are source, codec and resize. False when all was there. Raises DataError.
    """
    root = given_root(words)
    home = homes(data_root, given["source"], root)[given["source"]]
    make = partial(build, task, data_root, given["source"], given["codec"], given["resize"], root,
                   progress=show_progress)  # fmt: skip
    try:
        return make()
    except MissingCopy:
        if words.get("build") != "yes":
            raise
        build_copy(home, task.id)
    except MissingData as error:
        folder = raw_folder(home, task.id)
        allowed = given["source"] == "raw" and words.get("download") != "no"
        if not (allowed and fetch_missing(folder, words.get("download") == "yes", error)):
            raise
    return make()


def prepare(task: TaskInfo, data_root: Path, words: dict[str, str]) -> bool:
    """Make ``task`` ready where that is possible, say so, and return whether it is."""
    if task.suite == "mini":
        if not mini_ready(task, data_root):
            build_mini(task, data_root)
        ready = mini_path(task.id, data_root).is_file()
        print(mini_line(task, data_root) if ready else f"{task.id}: cannot be stored in {data_root}", flush=True)
        return ready
    if task.id in SHOT_ROWS:
        return prepare_shots(SHOT_ROWS[task.id], data_root, words)
    given = {key: words.get(key, default) for key, default in DEFAULTS.items()}
    try:
        made = build_or_fetch(task, data_root, given, words)
    except DataError as error:
        print(f"{task.id}: {error}", file=sys.stderr, flush=True)
        print(*vtab_instructions(task, homes(data_root, given["source"], given_root(words))), sep="\n", flush=True)
        return False
    place = split_path(task.id, "test", data_root, variant(**given)).parent
    print(f"{task.id}: {'made' if made else 'ready'} from source={given['source']} in {place}", flush=True)
    return True


def prepare_shots(row: ShotRow, data_root: Path, words: dict[str, str]) -> bool:
    """Make a few-shot or domain-generalisation set ready from its lists, say so, and return whether it is."""
    chosen = {key: [int(n) for n in words[key].split(",")] for key in NUMBERS if key in words}
    shots = [k for k in chosen.get("shots", row.shots) if k in row.shots]
    root = given_root(words) or data_root / SOURCE_FOLDER
    seeds, (size,) = chosen.get("list_seed", list(LIST_SEEDS)), chosen.get("size", [224])
    try:
        made = build_shots(row, data_root, root, shots, seeds, size, show_progress)
    except DataError as error:
        print(f"{row.id}: {error}", file=sys.stderr, flush=True)
        print(*shots_instructions(row, root), sep="\n", flush=True)
        return False
    place = eval_path(row.id, data_root, "test", size).parent
    print(f"{row.id}: {'made' if made else 'ready'} from {root} in {place}", flush=True)
    return True


def main(words: list[str]) -> int:
    """Run the command line; returns the exit status."""
    print_anything()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if words in (["help"], ["-h"], ["--help"]):
        print((__doc__ or "").strip())
        return 0
    try:
        given = parse_words(words)
        tasks = chosen_tasks(given)
    except DataError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 2
    try:
        data_root = user_path(given["data_root"], "data_root") if "data_root" in given else default_data_root()
        if not tasks:
            for line in status_lines(data_root, given.get("source", DEFAULTS["source"]), given_root(given)):
                print(line)
            return 0
        # A list, not a generator: one task that is not ready must not keep the others from being prepared.
        return 0 if all([prepare(task, data_root, given) for task in tasks]) else 1
    except DataError as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    with quiet_end():
        status = main(sys.argv[1:])
    sys.exit(status)
