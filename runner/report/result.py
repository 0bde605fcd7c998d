"""`result.json`: what a finished run is known by, written and read here alone.

Schema 2 adds what schema 1 left to the names of backbone and protocol: `family`, `mark` and `comparable`. Schema 3 says
how many random subnets stand beside a searched one; before there were always 20, as `random20`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, JsonValue, field_validator, model_validator

from data import DataError
from glora.typed import Amount, Count, Share, Typed
from runner.config.errors import ConfigError
from runner.config.protocol import FOUNDING
from runner.rundir import records
from runner.rundir.files import write_json

SCHEMA = 3
RANDOM, RANDOM_2 = "random_subnets", "random20"
"""The comparator of random subnets, and what it was up to schema 2."""
Record = dict[str, Any]
"""A result as the tables take it, with whatever columns of a user's read besides."""

SUITE_NEEDS = {"few_shot": ("shots",), "domain_generalization": ("targets", "list_seed", "class_subset")}
"""What the tables of a suite read besides."""

SCHEMA_2 = ("group", "family", "mark", "comparable", "resize", "trainer", "recipe", "environment", "training_seconds",
            "peak_memory_mb")  # fmt: skip
"""What every result from schema 2 on says, and earlier ones may not."""


class Compared(Typed, extra="allow"):
    """A comparator: its accuracies and parameters, as far as they were measured."""

    val: Share | None = None
    test: Share | None = None
    params: Count | None = None


class Drawn(Typed, extra="allow"):
    """Random subnets: mean and sample sd of their test accuracies."""

    test_mean: Share
    test_sd: Share


class Random(Drawn):
    """The same, and how many they are."""

    subnets: Count


class Comparators(Typed, extra="allow"):
    """What a searched subnet is compared with, on so many test images."""

    images: Count | None = None
    winner: Compared | None = None
    largest: Compared | None = None
    random_subnets: Random | None = None
    random20: Drawn | None = None
    random_search: Compared | None = None
    untuned: Compared | None = None
    scratch: Compared | None = None


class Machine(Typed, extra="allow"):
    """What a result was made on."""

    device: str
    threads: Count


class Result(records.Record, extra="allow"):
    """A result of any schema. What has no value here every table reads; other keys are a user's own columns."""

    remedy = records.AGAIN.format("evaluate.py")

    schema_: int = Field(default=1, alias="schema")
    dataset: str
    suite: str
    method: str
    label: str
    backbone: str
    protocol: str
    hparams: str
    seed: int
    selected_on_test: bool
    normalization: str | dict[str, JsonValue]
    source: str
    codec: str
    training_images: Count
    params: Count | None
    val_accuracy: Share | None
    test_accuracy: Share | None
    comparators: Comparators

    group: str = ""
    form: str = ""
    ranks: list[Count] = Field(default_factory=list)
    family: str | None = None
    mark: str = ""
    comparable: bool = False
    trainer: str = ""
    recipe: str | None = None
    epochs: Count | None = None
    search: str | None = None
    fitness: str | None = None
    selection_noise: records.Noise | None = None
    resize: str = ""
    augmentation: str | None = None
    class_subset: str | None = None
    shots: Count | None = None
    list_seed: int | None = None
    targets: dict[str, Share | None] = Field(default_factory=dict)
    environment: Machine | None = None
    training_seconds: Amount | None = None
    search_seconds: Amount | None = None
    tuning_seconds: Amount | None = None
    peak_memory_mb: Amount | None = None

    @field_validator("schema_")
    @classmethod
    def _known(cls, schema: int) -> int:
        if schema not in range(1, SCHEMA + 1):
            raise ValueError(f"it has schema {schema}, this version reads 1 to {SCHEMA}; update the code")
        return schema

    @model_validator(mode="after")
    def _complete(self) -> Result:
        missing = [key for key in SCHEMA_2 if self.schema_ >= 2 and key not in self.model_fields_set]
        if self.schema_ >= 2:
            of = self.comparators
            # A winner that no search found has no random search beside it, a retrained one not the largest subnet.
            searched = of.random_search is not None or of.largest is not None
            for needs, sign, there in (("search", "random_search or largest", searched),
                                       ("search_seconds", "random_search or largest", searched),
                                       ("tuning_seconds", "untuned", of.untuned is not None)):  # fmt: skip
                if (needs in self.model_fields_set) != there:
                    missing.append(f"{needs} where it has comparators.{sign}, and only there")
            if self.search_seconds is not None and of.random_search is None:
                missing.append("comparators.random_search beside the time of a search")
        if missing:
            raise ValueError(f"a result of schema {self.schema_} has {', '.join(missing)}")
        lacking = [key for key in SUITE_NEEDS.get(self.suite, ()) if getattr(self, key) is None]
        if lacking or (self.suite == "domain_generalization" and "targets" not in self.model_fields_set):
            raise ValueError(f"a result of suite={self.suite} has {', '.join(SUITE_NEEDS[self.suite])}")
        return self


PATH = "path"
"""The key under which `collect` says where a record came from, relative to its root; it is no part of the file."""

FAMILIES = {"vit_b16_in21k": "vit_b16", "vit_b16_augreg_in21k": "vit_b16", "swin_b_in22k": "swin_b"}
"""The families of the backbones that results of schema 1 know by name."""


def write_result(path: Path, record: Mapping[str, Any]) -> None:
    """Write a result, whole or not at all."""
    write_json(path, {"schema": SCHEMA, **record})


def read_result(path: Path) -> Record:
    """A result as it is on the disk, of whichever schema, with what the last one has.

    Raises:
        ConfigError: naming the file, if it cannot be read, does not fit, or comes from a later version.
    """
    return completed(records.read(path, Result).model_dump(exclude_unset=True, by_alias=True))


def completed(record: Mapping[str, Any]) -> Record:
    """A result of whichever schema with the values of the last, its own where it has them."""
    founding = FOUNDING.get(record["protocol"])
    comparators = dict(record["comparators"])
    if RANDOM_2 in comparators:
        comparators[RANDOM] = {"subnets": 20, **comparators.pop(RANDOM_2)}
    return {
        "family": FAMILIES.get(record["backbone"]),
        "mark": "selected on test" if record["selected_on_test"] else "",
        "comparable": founding.comparable if founding else False,
        **record,
        "comparators": comparators,
    }


def collect(root: Path) -> tuple[list[Record], list[str]]:
    """Every result below `root` with its `PATH`, in their order, and what is wrong with those that cannot be read."""
    records, problems = [], []
    for path in sorted(root.rglob("result.json")):
        try:
            records.append({**read_result(path), PATH: path.relative_to(root).as_posix()})
        except (ConfigError, DataError) as error:
            problems.append(str(error))
    return records, problems
