"""The state of a search as JSON: generations done, and everything evaluated in the order of evaluation."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator

from glora.search.selection import Measured
from glora.typed import Amount, Count, Share, Typed

NOT_FINITE = "nan"
"""A loss or probability that is no finite number, for which JSON has no word."""


class Row(Typed, extra="allow"):
    """One candidate; `subnet` has its other keys, the space's encoding. Early versions have accuracies alone."""

    accuracy: Share
    params: Count
    generation: Count
    loss: Amount | Literal["nan"] | None = None
    probability: Share | Literal["nan"] | None = None

    @property
    def subnet(self) -> dict[str, Any]:
        """What `Space.decode` takes."""
        return dict(self.model_extra or {})

    @property
    def measured(self) -> Measured:
        """What is known of it; NaN where it was not finite."""
        loss, probability = (math.nan if isinstance(k, str) else k for k in (self.loss, self.probability))
        return Measured(self.accuracy, loss, probability)


def sealed(state: Mapping[str, Any]) -> dict[str, Any]:
    """`state` for a file, with the digest of its JSON as `sha256`: a candidate less would change what is bred."""
    return {**state, "sha256": _digest(state)}


def _digest(state: Mapping[str, Any]) -> str:
    held = json.dumps({key: value for key, value in state.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(held.encode()).hexdigest()


class State(Typed):
    """What `Search.state` gives, sealed or not, as those of early versions are.

    Raises:
        ValueError: if its seal is not its own, if a candidate is of a generation that is not done or they are out of
            order, or if a generation is done and the first has none.
    """

    generation: Count
    candidates: list[Row]

    @property
    def largest_generation(self) -> int:
        """Candidates of the generation that has most."""
        return max(Counter(row.generation for row in self.candidates).values(), default=0)

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, raw: object) -> object:
        if isinstance(raw, dict) and raw.get("sha256") not in (None, _digest(raw)):
            raise ValueError("it is damaged, its digest is not the one recorded")
        return raw

    @model_validator(mode="after")
    def _in_order(self) -> State:
        generations = [row.generation for row in self.candidates]
        if any(later < earlier for earlier, later in itertools.pairwise(generations)):
            raise ValueError("its candidates are not in the order of their generations")
        if generations and generations[-1] >= self.generation:
            raise ValueError(f"candidates are of generation {generations[-1]}, and {self.generation} are done")
        if self.generation and generations[:1] != [0]:
            raise ValueError(f"{self.generation} generations are done, and no candidate is of the first")
        return self
