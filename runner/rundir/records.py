"""What the JSON files of a run directory may hold, and the one reader of all of them.

A type stands for a kind of file: its keys, their ranges, and what to do about a file that does not fit. Keys that it
does not name are of later versions or of a user, and are passed over; those that came later have the value of before.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, cast

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from data.files import read_bytes
from glora import Soup
from glora.search import SEARCHES, Member, Space
from glora.typed import Amount, Count, Share, Typed, parse
from runner.config.errors import ConfigError
from runner.config.run import UNSEARCHED
from runner.config.search import WINNERS

WINNER = "winner.json"
"""A search's winner where it is none of its candidates."""

AGAIN = "delete it, and run {} with the same overrides again"
Kind = TypeVar("Kind", bound=Typed)


class Record(Typed):
    """Base of the kinds of files; `remedy` is what is to be done about one that does not fit."""

    remedy: ClassVar[str] = "move it away, and run the same command again"


def _row(row: dict[str, int | float]) -> dict[str, int | float]:
    Epoch.model_validate(row)
    for key, value in row.items():
        if key.startswith("val/") and not 0 <= value <= 1:
            raise ValueError(f"{key}={value!r} is no accuracy, which is from 0 to 1")
    return row


class Epoch(Typed):
    """What every row of a training says; accuracies on the selection split are `val/<name>`."""

    epoch: Count
    loss: float
    lr: Amount
    seconds: Amount


class Summary(Record):
    """`train_<split>.json`, of a finished training."""

    remedy = "delete it with the weights beside it, and train with the same overrides again"
    data_hash: str
    images: Count
    seconds: Amount
    peak_memory_mb: Amount | None = None
    rows: list[Annotated[dict[str, int | float], AfterValidator(_row)]]

    def accuracies(self, key: str) -> list[float]:
        """What the rows say of it, those that say it."""
        return [row[key] for row in self.rows if key in row]


class Clock(Record):
    """`seconds_<search>.json`: the time that a search took."""

    remedy = "delete it, and run the same command again; what was spent until now is not counted then"
    seconds: Amount


def clock_file(folder: Path, search: str) -> Path:
    """Where a `Clock` lies: not in the search's state, which is the same whether or not it was interrupted."""
    return folder / f"seconds_{search}.json"


class Tried(Record, extra="allow"):
    """One point of a grid: what it came to, `val_accuracy` being the mean of `val`, or how it diverged."""

    remedy = AGAIN.format("train.py")
    point: dict[str, float]
    val_accuracy: Share | None
    val: dict[str, Share] = Field(default_factory=dict)
    seconds: Amount | None = None
    diverged: str | None = None

    @model_validator(mode="after")
    def _trained_or_diverged(self) -> Tried:
        if self.val_accuracy is None:
            if self.diverged is None:
                raise ValueError("val_accuracy is null, and diverged does not say why")
        elif self.seconds is None or not self.val or self.diverged is not None:
            raise ValueError("a point with val_accuracy has val and seconds, and did not diverge")
        elif not math.isclose(self.val_accuracy, sum(self.val.values()) / len(self.val), abs_tol=1e-9):
            raise ValueError(f"val_accuracy={self.val_accuracy} is not the mean of val")
        return self


class Grid(Record, extra="allow"):
    """`grid.json`: all points, and the one that was chosen."""

    remedy = AGAIN.format("train.py")
    chosen: dict[str, float]
    points: list[Tried]

    @model_validator(mode="after")
    def _tried(self) -> Grid:
        if self.chosen not in [t.point for t in self.points if t.val_accuracy is not None]:
            raise ValueError(f"the chosen point {self.chosen} is none of those with an accuracy")
        return self


class Baseline(Typed, extra="allow"):
    """The winner of the random search beside a search."""

    val: Share
    params: Count


class Noise(Typed):
    """How sure a selection is (`glora.search.selection_noise`): a share of the images, and candidates within it."""

    standard_error: Share
    within: Count


def _known_search(name: str) -> str:
    if name not in SEARCHES:
        raise ValueError(f"search={name[:40]!r} is not one of {', '.join(SEARCHES)}")
    return name


def _known_winner(name: str) -> str:
    if name not in WINNERS:
        raise ValueError(f"winner={name[:40]!r} is not one of {', '.join(WINNERS)}")
    return name


class Asked(Record):
    """`settings.json` of a search: what decides the search itself, of all that it says (`SearchChoice.asked`)."""

    name: str
    settings: dict[str, Any]
    selection_images: Count
    max_share: float | None


class Best(Record):
    """`best.json`: what a search says of its winner when it is done.

    Attributes:
        search: which of the searches in the folder it was.
        val_accuracy: of the winner, with the supernet's weights.
        params: of the winner.
        images: that selected.
        winner: the form that was handed over.
        random_search: the baseline; None where nothing was searched.
        fitness: what it was chosen by.
        noise: of the best candidate's accuracy; None where nothing was searched, and in files of earlier versions.
        subnet: in words, where the method trains it anew.
        weights: digest of the supernet's tensors; empty where it was not kept.
    """

    remedy = AGAIN.format("search.py")
    search: Annotated[str, AfterValidator(_known_search)]
    val_accuracy: Share
    params: Count
    images: Annotated[Count, Field(ge=1)]
    winner: Annotated[str, AfterValidator(_known_winner)] = "subnet"
    random_search: Annotated[Baseline | None, Field(validate_default=True)] = None
    fitness: Literal["accuracy", "loss", "probability"] = "accuracy"
    noise: Noise | None = None
    subnet: str = ""
    weights: str = ""

    @field_validator("random_search")
    @classmethod
    def _beside_a_search(cls, found: Baseline | None, info: ValidationInfo) -> Baseline | None:
        if found is None and info.data.get("winner") not in UNSEARCHED:
            raise ValueError("there is none, and every search has one beside it")
        return found


class Failure(Record):
    """`failure.json`: what ended the last attempt at a run; gone when another one begins."""

    error: str
    status: Count


def read(path: Path, kind: type[Kind], remedy: str = "") -> Kind:
    """What a file holds, as `kind` has it.

    Raises:
        ConfigError: of one line, naming the file, the key and the remedy; `kind`'s own where none is given.
    """
    remedy = remedy or getattr(kind, "remedy", Record.remedy)
    try:
        return parse(kind.model_validate_json, read_bytes(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error}); {remedy}") from error
    except ValueError as error:
        raise ConfigError(f"{path} {error}; {remedy}") from error


def read_best(folder: Path) -> Best:
    """What the search of the folder wrote of its winner. Raises ConfigError as `read`."""
    return read(folder / "best.json", Best)


def read_subnet(space: Space[Member], folder: Path, name: str) -> Member:
    """The winner that the search called `name` left in its folder. Raises ConfigError naming the file if it is not."""
    return _read_choice(space, folder / f"subnet_{name}.json")


def read_winner(space: Space[Member], folder: Path) -> Member:
    """The winner of the search that the folder was made for. Raises ConfigError as its two files are read."""
    best = read_best(folder)
    if best.winner != "subnet":
        return _read_choice(space, folder / WINNER)
    return read_subnet(space, folder, best.search)


def _read_choice(space: Space[Member], path: Path) -> Member:
    try:
        found = space.from_json(read_bytes(path).decode("utf-8-sig"))
        if isinstance(found, Soup) and not found.averages:
            raise ValueError("its gates are averages, from 0 to 1")
        return cast(Member, found)  # a soup goes wherever a subnet does
    except (ValueError, OSError) as error:
        remedy = f"delete it and {path.with_name('best.json')}, and run search.py with the same overrides again"
        raise ConfigError(f"{path} holds no subnet of this model ({error}); {remedy}") from error
