"""What every part of the check gets, and the figures that are to be shown with their goals."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from runner.bench.setting import Setting


@dataclass(frozen=True)
class Goal:
    """A bound of a figure that the part called `part` notes."""

    part: str
    bound: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        """Whether the value keeps to it."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'at least' if self.at_least else 'at most'} {self.bound:g}"


SHARE = "share of the bf16 matrix rate in a step"
TIMES = "times as fast as the formula as it stands in IEEE fp32"
GRAPHS = "graphs compiled for all subnets"
WAITS = "host synchronisations in a step"
THOUSAND = "1,000 candidates on 200 images"
WHOLE_TASK = "one task, extrapolated"
NINETEEN = "19 tasks, extrapolated"
FAILED = "tests failed"
BATCHES = (1, 4, 16, 256)
ROUNDING = 0.01
"""How far the merged model may be from the untouched one."""


def merged_name(batch: int) -> str:
    """The figure of the merged model's time on a batch."""
    return f"merged / untouched model, batch {batch}"


GOALS: dict[str, Goal] = {
    FAILED: Goal("tests", 0),
    SHARE: Goal("steps", 0.5, at_least=True),
    TIMES: Goal("steps", 8, at_least=True),
    GRAPHS: Goal("steps", 1),
    WAITS: Goal("steps", 0),
    THOUSAND: Goal("candidates", 60),
    **{merged_name(batch): Goal("candidates", 1 + ROUNDING) for batch in BATCHES},
    WHOLE_TASK: Goal("task", 180),
    NINETEEN: Goal("task", 3600),
}
"""By the name of the figure, in its unit."""


@dataclass(frozen=True)
class Check:
    """Where and how a part measures; `end` is when it is cut off, in seconds of `time.time`."""

    device: str
    smoke: bool
    folder: Path
    part: str
    end: float

    @property
    def cuda(self) -> bool:
        """Whether the device is a CUDA one."""
        return torch.device(self.device).type == "cuda"

    @property
    def left(self) -> float:
        """Seconds until the part is cut off."""
        return self.end - time.time()

    @property
    def figures(self) -> Path:
        """The file of the part's figures, a line each."""
        return self.folder / f"{self.part}.jsonl"

    def setting(self, precision: str = "bf16") -> Setting:
        """ViT-B/16 with 64 images a step, or what a CPU does in a moment: many take minutes for a product in bf16."""
        if self.smoke:
            return Setting("test_vit", (8, 4), 2, self.device)
        return Setting("vit_b16", (8, 4), 64, self.device, precision)

    def note(self, name: str, value: float, unit: str = "", remark: str = "") -> None:
        """Keep a figure at once: whatever comes next may be cut off."""
        row = {"name": name, "value": value, "unit": unit, "remark": remark}
        with self.figures.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(f"{name}: {value:,.4g} {unit} {remark}".rstrip(), flush=True)
