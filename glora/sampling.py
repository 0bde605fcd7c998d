"""Which subnets of a supernet one training step sees; found by name in `SAMPLERS`.

A step sets them one after another on the same batch, adds up the gradients of their losses, and moves the weights once:
the sum, as the published code of slimmable networks and FairNAS has it (AdamW does not see the factor).
Every draw is a function of (seed, step), so a resumed training draws what the unbroken one draws.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, Protocol

from glora.options import LayerConfig
from glora.search.interface import Member, Space
from glora.space import SearchSpace, Subnet

SAMPLERS: dict[str, type[Sampler[Any]]] = {}
"""Every sampler by name; a class with a `name` of its own enters when it is defined."""


def step_rng(seed: int, step: int) -> random.Random:
    """The generator of the subnets drawn at one step; the same on every process for the same seed and step."""
    return random.Random(f"{seed}-{step}")


class Drawn(Protocol[Member]):
    """A supernet as its training sees it: `glora.Supernet`, or a method of kind `Searched`."""

    @property
    def space(self) -> Space[Member]:
        """Its subnets."""

    def set(self, subnet: Member) -> None:
        """Make the model compute `subnet`."""


class Sampler(ABC, Generic[Member]):
    """Chooses the subnets of every step.

    Attributes:
        name: what `Recipe.sampling` takes.
        from_largest: the first subnet of every step is the largest, from which the others can be distilled.
        independent_genes: it needs a space of genes that are chosen independently of each other (`SearchSpace`).

    Args:
        space: of the supernet.
        draws: random subnets a step.

    Raises:
        ValueError: for `draws` below 1, or a space without independent genes where they are needed.
    """

    name: ClassVar[str]
    from_largest: ClassVar[bool] = False
    independent_genes: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            SAMPLERS[cls.name] = cls

    def __init__(self, space: Space[Member], draws: int = 1) -> None:
        if draws < 1:
            raise ValueError(f"draws={draws} must be at least 1")
        if self.independent_genes and not isinstance(space, SearchSpace):
            free = ", ".join(name for name, kind in SAMPLERS.items() if not kind.independent_genes)
            raise ValueError(
                f"sampling={self.name} needs genes that are chosen independently of each other, as GLoRA's are, which "
                f"{type(space).__name__} does not have; choose {free}"
            )
        self.space, self.draws = space, draws

    @abstractmethod
    def subnets(self, seed: int, step: int) -> list[Member]:
        """The subnets of step `step` (from 0), in order."""


class Uniform(Sampler[Member]):
    """`draws` independent draws of the space, which GLoRA (arXiv 2306.07967, section 3.4) makes one of."""

    name = "uniform"

    def subnets(self, seed: int, step: int) -> list[Member]:
        """The first is the same for any number of draws."""
        rng = step_rng(seed, step)
        return [self.space.sample(rng) for _ in range(self.draws)]


class Sandwich(Sampler[Member]):
    """The largest subnet and `draws` random ones in every step.

    Sources: universally slimmable networks (Yu and Huang, arXiv 1903.05134) and BigNAS (arXiv 2003.11142). Both train
    the smallest subnet too, which is left out here: GLoRA's is the frozen backbone, so that only the head would train.
    """

    name = "sandwich"
    from_largest = True

    def subnets(self, seed: int, step: int) -> list[Member]:
        """The largest, then the draws of `Uniform`."""
        rng = step_rng(seed, step)
        return [self.space.largest, *(self.space.sample(rng) for _ in range(self.draws))]


class Fair(Sampler[Subnet]):
    """Every gene takes each of its m options once in m consecutive draws, in random order.

    The strict fairness of FairNAS (Chu et al., arXiv 1907.01845) for genes with different numbers of options: over
    `round` draws each option of each gene is drawn equally often. FairNAS moves the weights once in m draws, which are
    `draws=m` here.
    """

    name = "fair"
    independent_genes = True
    space: SearchSpace

    @property
    def round(self) -> int:
        """Draws after which every option of a gene was drawn equally often, for all genes."""
        return math.lcm(*(len(options) for spec in self.space.layers for options in self.space.options(spec)))

    def subnets(self, seed: int, step: int) -> list[Subnet]:
        """The next `draws` of one endless sequence."""
        return [self._draw(seed, step * self.draws + k) for k in range(self.draws)]

    def _draw(self, seed: int, number: int) -> Subnet:
        # Genes with equally many options begin their orders together, and one generator shuffles all of them.
        shuffles: dict[int, random.Random] = {}
        layers = []
        for spec in self.space.layers:
            genes = []
            for options in self.space.options(spec):
                m = len(options)
                if m not in shuffles:
                    shuffles[m] = random.Random(f"fair-{seed}-{m}-{number // m}")
                genes.append(shuffles[m].sample(options, m)[number % m])
            layers.append(LayerConfig(*genes))
        return Subnet(tuple(layers))
