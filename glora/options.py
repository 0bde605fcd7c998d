"""The options of one adapted layer: what each support tensor A to E may be, and what it costs.

Paper section 3.2 and appendix E. A and B may be LoRA of a rank in the list, vector, scalar or none; C has no
scalar; D and E have no LoRA.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

Kind = Literal["lora", "vector", "scalar", "none"]
TENSORS = ("A", "B", "C", "D", "E")
Words = Annotated[list[str], Field(min_length=len(TENSORS), max_length=len(TENSORS))]
"""The options of one layer in JSON."""
MOST_RANK = 4096
"""Beyond the width of any layer where a low rank would save parameters; so that a slip does not fill the memory."""


@dataclass(frozen=True, order=True)
class Option:
    """One choice for one support tensor; `rank` is 0 unless `kind` is "lora"."""

    kind: Kind
    rank: int = 0

    def __post_init__(self) -> None:
        if self.kind not in ("lora", "vector", "scalar", "none"):
            raise ValueError(f"option kind {self.kind!r} is not one of lora, vector, scalar, none")
        if (self.kind == "lora") != (self.rank > 0):
            raise ValueError(f"a rank belongs to lora and to nothing else, got {self.kind!r} with rank {self.rank}")

    def __str__(self) -> str:
        return f"lora_{self.rank}" if self.kind == "lora" else self.kind

    @classmethod
    def parse(cls, text: str) -> Option:
        """Read "lora_8", "vector", "scalar" or "none". Raises ValueError on anything else."""
        kind, _, rank = text.partition("_")
        if kind == "lora" and rank.isdecimal():
            return cls("lora", int(rank))
        for option in (VECTOR, SCALAR, NONE):
            if text == option.kind:
                return option
        raise ValueError(f"{text!r} is not an option; allowed: lora_<rank>, vector, scalar, none")


VECTOR, SCALAR, NONE = Option("vector"), Option("scalar"), Option("none")


@dataclass(frozen=True, order=True)
class LayerConfig:
    """The five choices of one layer, in the order of equation 10."""

    A: Option = NONE
    B: Option = NONE
    C: Option = NONE
    D: Option = NONE
    E: Option = NONE

    def __iter__(self) -> Iterator[Option]:
        return iter((self.A, self.B, self.C, self.D, self.E))

    @classmethod
    def parse(cls, texts: Sequence[str]) -> LayerConfig:
        """Read five option words in the order A, B, C, D, E. Raises ValueError if they are not that."""
        if len(texts) != len(TENSORS):
            raise ValueError(f"a layer has {len(TENSORS)} options (A, B, C, D, E), got {str(texts)[:100]}")
        return cls(*(Option.parse(t) for t in texts))

    @classmethod
    def parse_choices(cls, text: str) -> LayerConfig:
        """Read choices such as "B=lora_8,E=vector"; tensors that are not named are none. Raises ValueError."""
        chosen: dict[str, Option] = {}
        for part in text.split(","):
            tensor, _, option = part.strip().partition("=")
            if tensor not in TENSORS or tensor in chosen:
                raise ValueError(
                    f"{part.strip()!r} is not <tensor>=<option> with each of {', '.join(TENSORS)} at most once"
                )
            chosen[tensor] = Option.parse(option)
        return cls(**chosen)

    def choices(self) -> str:
        """Inverse of `parse_choices`."""
        return ",".join(f"{t}={o}" for t, o in zip(TENSORS, self, strict=True) if o != NONE)


def check_tensors(tensors: str) -> str:
    """The letters of a restricted space, such as "AB". Raises ValueError unless they are some of A to E in order."""
    if not tensors or tensors != "".join(t for t in TENSORS if t in tensors):
        raise ValueError(f"tensors={tensors} must be letters of {''.join(TENSORS)} in that order, such as tensors=AB")
    return tensors


def check_ranks(ranks: Sequence[int]) -> tuple[int, ...]:
    """Validate a rank list such as [8, 4]; returns it as a tuple.

    Raises:
        ValueError: if it is empty, not strictly descending, or holds something that is not a positive integer.
    """
    checked = tuple(ranks)
    if not checked or any(isinstance(r, bool) or not isinstance(r, int) or r < 1 for r in checked):
        raise ValueError(f"ranks must be positive integers such as [8,4], got {list(ranks)}")
    if checked[0] > MOST_RANK:
        raise ValueError(f"ranks must be at most {MOST_RANK}, got {list(ranks)}")
    if any(a <= b for a, b in itertools.pairwise(checked)):
        raise ValueError(f"ranks must be strictly descending, write {sorted(set(checked), reverse=True)}")
    return checked


@cache
def layer_options(ranks: tuple[int, ...], bias: bool = True, tensors: str = "ABCDE") -> tuple[tuple[Option, ...], ...]:
    """Options per tensor, in the order A to E; tensors outside `tensors` are fixed to none.

    Without a bias in the base layer D has no effect (D * b0), so it is fixed to none too.
    """
    lora = tuple(Option("lora", r) for r in ranks)
    small = (VECTOR, SCALAR, NONE)
    every = ((*lora, *small), (*lora, *small), (*lora, VECTOR, NONE), small if bias else (NONE,), small)
    return tuple(options if t in tensors else (NONE,) for t, options in zip(TENSORS, every, strict=True))


@cache
def all_configs(ranks: tuple[int, ...], bias: bool = True, tensors: str = "ABCDE") -> tuple[LayerConfig, ...]:
    """Every configuration of a layer: 432 for one rank, 900 for two (144 and 300 without bias)."""
    return tuple(LayerConfig(*choice) for choice in itertools.product(*layer_options(ranks, bias, tensors)))


def tensor_params(tensor: str, option: Option, d_in: int, d_out: int) -> int:
    """Parameters of one support tensor under one option (methods: A and B k(d1+d2), C k(d1+1))."""
    if option.kind == "none":
        return 0
    if option.kind == "scalar":
        return 1
    if option.kind == "vector":
        return d_in if tensor == "C" else d_out
    return option.rank * (d_in + (1 if tensor == "C" else d_out))


def config_params(config: LayerConfig, d_in: int, d_out: int) -> int:
    """Parameters of one layer configuration; d_in and d_out are the layer's input and output widths."""
    return sum(tensor_params(t, o, d_in, d_out) for t, o in zip(TENSORS, config, strict=True))
