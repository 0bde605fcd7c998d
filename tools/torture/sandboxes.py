"""Copies of prepared folders for cases to happen in, and the undisturbed results that theirs are held against."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from tools.torture.children import ROOT, Ended, Task, command, run
from tools.torture.fingerprint import fingerprint
from tools.torture.small import STAGES, Stage, leave_pictures_blank, make_images, remember_compositions
from tools.torture.watch import kill_before

HALVES = {"half_train": ("train", "train_train800.json"), "half_search": ("search", "best.json"),
          "half_grid": ("grid", "grid.json")}  # fmt: skip
"""States of killed stages: the stage, and the file that it was about to write."""


@dataclass
class Sandboxes:
    """`scratch` holds what every case starts from, the states that stages leave.

    `undisturbed` is how each stage ended by itself, `references` the fingerprint of its outputs; those of a stage that
    starts from another state than the one it comes after, as (stage, state).
    """

    scratch: Path
    undisturbed: dict[str, Ended] = field(default_factory=dict)
    references: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)

    def state(self, name: str | None) -> Path:
        """The folder that a stage, or a killed one, leaves; None: images and prepared data alone."""
        return self.scratch / "states" / (name or "empty")

    @contextmanager
    def sandbox(self, state: str | None, part: str = "") -> Iterator[Path]:
        """A copy of a state, or of one folder in it, which is deleted in the end."""
        folder = self.scratch / "sandboxes" / str(os.getpid())
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.state(state) / part, folder / part)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def task(self, name: str) -> Task:
        """The command of a stage."""
        return command(STAGES[name].words)

    def prepare(self, stages: Iterable[str], after: Iterable[tuple[str, str]] = ()) -> None:
        """Run stages undisturbed, each from the state before it, with those that they come after.

        Args:
            stages: their names.
            after: further (stage, state) pairs to know the results of.

        Raises:
            RuntimeError: if one fails.
        """
        torch.set_num_threads(1)  # threads of OpenMP do not survive a fork
        sys.dont_write_bytecode = True
        sys.path.insert(0, str(ROOT))
        remember_compositions()
        leave_pictures_blank()
        pairs = list(after)
        make_images(self.state(None) / "images")
        self._warm([STAGES[name] for name in _ordered({*stages, *_of_states(pairs)})])
        for name in _ordered({*stages, *_of_states(pairs)}):
            stage = STAGES[name]
            shutil.copytree(self.state(stage.after), self.state(name))
            self.undisturbed[name] = self._undisturbed(name, self.state(name))
            self.references[name, stage.after] = fingerprint(self.state(name) / "out")
        for name, state in pairs:
            if state in HALVES and not self.state(state).exists():
                shutil.copytree(self.state(STAGES[HALVES[state][0]].after), self.state(state))
                run(self.task(HALVES[state][0]), self.state(state), 120, before=kill_before(HALVES[state][1]))
            if (name, state) not in self.references:
                with self.sandbox(state) as folder:
                    self._undisturbed(name, folder)
                    self.references[name, state] = fingerprint(folder / "out", exact=state == name)
        gc.collect()
        gc.freeze()  # so that a child's collector does not copy this process's memory

    def _undisturbed(self, name: str, folder: Path) -> Ended:
        ended = run(self.task(name), folder, 120)
        if ended.status or ended.outside:
            raise RuntimeError(f"{name} fails undisturbed: {ended.outside} {ended.output[-2000:]}")
        if not ended.changes:
            raise RuntimeError(f"{name} changes no file that the watch sees: there is no point to kill it at")
        return ended

    def _warm(self, stages: list[Stage]) -> None:
        """Import and compose in this process what every child would otherwise do anew; keep the prepared data."""
        here, words, folder = os.getcwd(), sys.argv, self.scratch / "warm"
        shutil.copytree(self.state(None), folder)
        os.chdir(folder)
        try:
            for stage in stages:
                text = StringIO()
                try:
                    with redirect_stdout(text), redirect_stderr(text):
                        self.task(stage.name)()
                except SystemExit as end:
                    if end.code:
                        raise RuntimeError(f"{stage.name} fails undisturbed: {text.getvalue()[-2000:]}") from end
        finally:
            os.chdir(here)
            sys.argv = words
        shutil.copytree(folder / "data", self.state(None) / "data")


def _ordered(names: set[str]) -> list[str]:
    """The stages and all that they come after, in order."""
    for name in list(names):
        while (before := STAGES[name].after) is not None:
            names.add(before)
            name = before
    return [name for name in STAGES if name in names]


def _of_states(pairs: Iterable[tuple[str, str]]) -> set[str]:
    return {HALVES[state][0] if state in HALVES else state for _, state in pairs} | {name for name, _ in pairs}
