"""The record of a check: what ran on what, every figure with its goal, as JSON and as one Markdown table."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch

from data.files import write_text
from runner.rundir.files import write_json
from runner.tracking.environment import processor, versions
from tools.gpu_check.check import GOALS

QUERY = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,clocks.max.mem,power.draw,temperature.gpu"
"""What nvidia-smi is asked for; clocks in MHz, memory in MiB, power in W, temperature in degrees."""


def index_of(device: str) -> int:
    """The number of a CUDA device; "cuda" is the first."""
    return torch.device(device).index or 0


def state_of(device: str) -> dict[str, str]:
    """The card as nvidia-smi sees it now; empty without one. It starts no context of CUDA's."""
    if torch.device(device).type != "cuda":
        return {}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    number = index_of(device)
    card = visible[number].strip() if number < len(visible) and visible[number].strip() else str(number)
    command = ["nvidia-smi", f"--id={card}", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in done.stdout.strip().split(",")]
    names = QUERY.split(",")
    return dict(zip(names, values, strict=True)) if done.returncode == 0 and len(values) == len(names) else {}


@dataclass
class Outcome:
    """How a part went: `status` is "done" or says why not; `clocks` holds the SM clock's range in MHz while it ran."""

    status: str = "not run yet"
    seconds: float = 0.0
    clocks: tuple[int, int] | None = None
    figures: list[dict[str, object]] = field(default_factory=list)
    log: str = ""


@dataclass
class Record:
    """Everything of one check; `parts` are in the order of their priority."""

    command: str
    device: str
    smoke: bool
    budget: float
    parts: dict[str, Outcome] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def hardware(self) -> dict[str, object]:
        """Processor, card and what drives it."""
        return {"processor": processor(), "cores": os.cpu_count(), "card": self.card, "cuda": torch.version.cuda}

    def write(self, folder: Path) -> None:
        """Both files, whole or as they were."""
        found = {**asdict(self), "hardware": self.hardware(), "versions": versions("torch", "timm", "numpy")}
        del found["card"]
        write_json(folder / "record.json", found)
        write_text(folder / "record.md", "\n".join(self.lines()) + "\n")

    def lines(self) -> list[str]:
        """Markdown: the machine, one table of all figures and missing goals, and how the parts went."""
        card = self.card
        what = f"{card['name']}, driver {card['driver_version']}" if card else processor()
        installed = ", ".join(f"{n} {v}" for n, v in versions("torch", "timm").items())
        clocks = f", SM at most {card['clocks.max.sm']} MHz, memory {card['clocks.max.mem']} MHz" if card else ""
        about = f"{self.seconds:.0f} s of {self.budget:.0f}" + (", smoke: sizes no goal is for" if self.smoke else "")
        out = [f"{what}{clocks}; CUDA {torch.version.cuda}; {installed}; {about}", "", f"    {self.command}", ""]
        out += ["| part | figure | value | goal | | remark |", "| --- | --- | ---: | --- | --- | --- |"]
        for part, outcome in self.parts.items():
            noted = {str(row["name"]): row for row in outcome.figures}
            missing = [name for name, goal in GOALS.items() if goal.part == part and name not in noted]
            for name, row in noted.items():
                value = row["value"]
                assert isinstance(value, (int, float))
                cells = [f"{value:,.4g} {row['unit']}".strip(), *self._verdict(name, value), str(row["remark"])]
                out.append(f"| {part} | " + " | ".join(_cell(c) for c in (name, *cells)) + " |")
            out += [f"| {part} | {name} | | {GOALS[name]} | not measured | |" for name in missing]
        out += ["", "| part | how it went | s | SM clock, MHz |", "| --- | --- | ---: | --- |"]
        for part, o in self.parts.items():
            clock = f"{o.clocks[0]} to {o.clocks[1]}" if o.clocks else ""
            out.append(f"| {part} | {_cell(o.status)} | {o.seconds:.0f} | {clock} |")
        return out

    def _verdict(self, name: str, value: float) -> tuple[str, str]:
        goal = GOALS.get(name)
        if goal is None:
            return "", ""
        return str(goal), "not judged" if self.smoke else "met" if goal.met(value) else "missed"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def read_figures(path: Path) -> list[dict[str, object]]:
    """The lines of a part that may have been cut off within one."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
