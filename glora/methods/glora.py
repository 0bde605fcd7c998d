"""GLoRA (arXiv 2306.07967): the weight-sharing supernet over all options of equation 10."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from glora.evaluator import MergedEvaluator
from glora.methods.base import Searched
from glora.options import check_ranks, check_tensors
from glora.space import Subnet
from glora.supernet import Supernet

ALL_TENSORS = "ABCDE"


class GLoRA(Searched[Subnet]):
    """The supernet as a method; a search chooses the subnet that `merge` returns. Arguments are those of `Supernet`."""

    name = "glora"
    label = "GLoRA"
    group = "searched"
    paper_rows = {"table1": ("glora", "glora_4_2", "glora_2"), "table5": ("glora",)}
    known_params = {"vit_b16": 3_041_664, "swin_b": 4_087_832}
    static_graph = True
    published_note = "the rates published for method=glora are those of hparams=global"

    def __init__(
        self, model: nn.Module, ranks: Sequence[int] = (8, 4), tensors: str = ALL_TENSORS, convs: bool = False
    ) -> None:
        super().__init__(model)
        self.supernet = Supernet(model, ranks, convs=convs, tensors=tensors)
        self.space = self.supernet.space

    @classmethod
    def check_options(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options. Raises ValueError as `Method.check_options`, and for ranks or tensors that make no space."""
        options = super().check_options(given)
        for key, check in (("ranks", check_ranks), ("tensors", check_tensors)):
            try:
                options[key] = check(options[key])
            except ValueError as error:
                raise ValueError(f"method=glora: option {key}={options[key]}: {error}") from error
        return options

    @classmethod
    def row_label(cls, options: Mapping[str, Any]) -> str:
        """ "GLoRA-8-4", and what the space leaves out or adds."""
        notes = [options["tensors"]] * (options["tensors"] != ALL_TENSORS) + ["convolutions too"] * options["convs"]
        return f"{cls.label}-{'-'.join(map(str, options['ranks']))}" + (f" ({', '.join(notes)})" if notes else "")

    def set(self, subnet: Subnet) -> None:
        """Make the model compute `subnet`. Raises ValueError if it is not in the space."""
        self.supernet.set(subnet)

    def use_static_graph(self) -> None:
        """One graph for all subnets, as compilers want; call it when the model is on its device."""
        self.supernet.use_static_graph()

    def evaluator(self) -> MergedEvaluator:
        """One plain model for all subnets."""
        return MergedEvaluator(self.supernet)

    def trainable(self) -> dict[str, nn.Parameter]:
        """All stored support tensors and the head."""
        return self.supernet.trainable()

    def before_step(self, rng: random.Random) -> None:
        """An independent uniform draw per layer (paper section 3.4)."""
        self.supernet.sample(rng)

    def merge(self) -> nn.Module:
        """The current subnet as a plain model."""
        return self.supernet.merge()
