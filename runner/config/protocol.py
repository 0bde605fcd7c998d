"""A protocol is data: which images train, which weights are measured, what selects, and what its rows say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from data import parts_of
from glora.search.selection import OBJECTIVES
from runner.config.fields import choice, number

WEIGHTS, FINAL_WEIGHTS = "weights.safetensors", "weights_1000.safetensors"
"""Files of a run directory: what was trained first, and, where the protocol trains again, what is measured."""

OF_SEARCHES = ("fitness", "extremes")
"""Fields that name searches, and no training."""

TRAINING_SPLITS = ("train800", "train800val200")


@dataclass(frozen=True)
class Phase:
    """One training: its images, the file that it leaves, and whether it is evaluated on the selection split."""

    split: str
    file: str
    validate: bool

    def folder(self, directory: Path) -> Path:
        """Where the metrics of its epochs go, which would collide with those of the first phase."""
        return directory if self.validate else directory / self.split


@dataclass(frozen=True)
class Protocol:
    """One named protocol, filled by configs/protocol/<name>.yaml.

    Attributes:
        name: its word, shown in every table.
        training: the images that train first: what the search then evaluates with.
        final: the images behind the measured weights. Where they are others, the whole supernet (or the baseline) is
            trained again on them with the same recipe and seed, and the subnet that was found inherits those weights.
        selection: the images that select: the search, the training log, `hparams=val_grid`. With "test" the test images
            are seen while a run goes on, and every row says so; otherwise they are measured once per finished run.
        selection_every: epochs between two evaluations on the selection split; None: `trainer.eval_every`.
        measured: of what is not searched, the "last" epoch, or the "best" evaluation on a selection split that is test.
        mark: what every row of this protocol says of itself in tables.
        comparable: whether its rows stand beside published ones without a mark.
        max_params: where `search.max_params` is not given, the limit by backbone family.
        fitness: where `search.fitness` is not given, what the search goes by; by default what chooses better on few
            images (docs/search.md).
        extremes: where `search.extremes` is not given, whether the search begins with the space's extremes.
    """

    name: str
    training: str = choice("train800", TRAINING_SPLITS)
    final: str = choice("train800", TRAINING_SPLITS)
    selection: str = choice("val200", ("val200", "test"))
    selection_every: int | None = number(None, low=1)
    measured: str = choice("last", ("last", "best"))
    mark: str = ""
    comparable: bool = False
    max_params: Mapping[str, int] = field(default_factory=dict)
    fitness: str = choice("probability", OBJECTIVES)
    extremes: bool = True

    def __post_init__(self) -> None:
        if self.measured == "best" and self.selection != "test":
            raise ValueError(f"protocol {self.name}: measured=best is a maximum over test; it needs selection=test")
        if self.training != self.final and self.final == "train800":
            raise ValueError(f"protocol {self.name}: training={self.training} holds more images than final=train800")

    @property
    def selects_on_test(self) -> bool:
        """Whether test images choose anything."""
        return self.selection == "test"

    @property
    def holds_out_val200(self) -> bool:
        """Whether the first training leaves val200 to select on."""
        return self.selection == "val200" and "val200" not in parts_of(self.training)

    @property
    def measures_held_out(self) -> bool:
        """Whether the measured weights have not seen val200 either, and their accuracy there says something."""
        return self.selection == "val200" and "val200" not in parts_of(self.final)

    @property
    def needs_val200_in_training(self) -> bool:
        """Whether a training takes train800 and val200 together, as the 1000 images of VTAB-1K."""
        return "train800val200" in (self.training, self.final)

    def phase(self, split: str, file: str) -> Phase:
        """A training on `split`, evaluated on the selection images where they do not train."""
        return Phase(split, file, self.selection not in parts_of(split))

    def phases(self, retrained: bool) -> list[Phase]:
        """The trainings of `train.py` in order; a winner that is `retrained` sees the final images only then."""
        phases = [self.phase(self.training, WEIGHTS)]
        if self.final != self.training and not retrained:
            phases.append(self.phase(self.final, FINAL_WEIGHTS))
        return phases

    def weights_file(self, final: bool) -> str:
        """The file of the first training, or (`final`) of the weights that are measured."""
        return FINAL_WEIGHTS if final and self.final != self.training else WEIGHTS


FOUNDING = {
    "clean": Protocol("clean"),
    "clean_1000": Protocol("clean_1000", final="train800val200", comparable=True),
    "reference_2023_06": Protocol(
        "reference_2023_06", "train800val200", "train800val200", "test", 10, "best", "selected on test",
        max_params={"vit_b16": 1_000_000}, fitness="accuracy", extremes=False,
    ),
}  # fmt: skip
"""The protocols that run directories and results know by name alone, as they were then. A protocol that says anything
else, under whichever name, has its fields but `OF_SEARCHES` in the run's identity and in its results."""
