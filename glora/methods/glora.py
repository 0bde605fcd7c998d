"""GLoRA (arXiv 2306.07967): the weight-sharing supernet over all options of equation 10."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from glora.evaluator import MergedEvaluator
from glora.methods.base import Method, Searched
from glora.options import check_ranks, check_tensors
from glora.soup import Soup
from glora.space import Subnet
from glora.supernet import Supernet

ALL_TENSORS = "ABCDE"


class OnSupernet(Method):
    """A method whose adaptation is a `Supernet` with these arguments, be it of many subnets or of one."""

    def __init__(self, model: nn.Module, ranks: Sequence[int], tensors: str, convs: bool) -> None:
        super().__init__(model)
        self.supernet = Supernet(model, ranks, convs=convs, tensors=tensors)

    @classmethod
    def check_options(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """All options. Raises ValueError as `Method.check_options`, and for ranks or tensors that make no space."""
        options = super().check_options(values)
        for key, check in (("ranks", check_ranks), ("tensors", check_tensors)):
            try:
                options[key] = check(options[key])
            except ValueError as error:
                raise ValueError(f"method={cls.name}: option {key}={options[key]}: {error}") from error
        return options

    @staticmethod
    def notes(options: Mapping[str, Any]) -> str:
        """What the space leaves out or adds, in brackets; empty for the paper's."""
        notes = [options["tensors"]] * (options["tensors"] != ALL_TENSORS) + ["convolutions too"] * options["convs"]
        return f" ({', '.join(notes)})" if notes else ""

    def trainable(self) -> dict[str, nn.Parameter]:
        """All stored support tensors and the head."""
        return self.supernet.trainable()

    def merge(self) -> nn.Module:
        """The current subnet as a plain model."""
        return self.supernet.merge()


class GLoRA(OnSupernet, Searched[Subnet]):
    """The supernet as a method; a search chooses the subnet that `merge` returns. Arguments are those of `Supernet`."""

    name = "glora"
    label = "GLoRA"
    group = "searched"
    paper_rows = {"table1": ("glora", "glora_4_2", "glora_2"), "table5": ("glora",)}
    known_params = {"vit_b16": 3_041_664, "swin_b": 4_087_832}
    keeps_winner = True
    static_graph = True
    independent_genes = True
    published_note = "the rates published for method=glora are those of hparams=global"

    def __init__(
        self, model: nn.Module, ranks: Sequence[int] = (8, 4), tensors: str = ALL_TENSORS, convs: bool = False
    ) -> None:
        super().__init__(model, ranks, tensors, convs)
        self.space = self.supernet.space
        self._gates: dict[str, nn.Parameter] = {}

    @classmethod
    def row_label(cls, options: Mapping[str, Any]) -> str:
        """ "GLoRA-8-4", and what the space leaves out or adds."""
        return f"{cls.label}-{'-'.join(map(str, options['ranks']))}{cls.notes(options)}"

    def set(self, subnet: Subnet | Soup) -> None:
        """Make the model compute `subnet`. Raises ValueError if it is not in the space."""
        self.supernet.set(subnet)

    def keep(self, subnet: Subnet | Soup, learn_gates: bool = False) -> None:
        """Hold `subnet` alone from now on, with the inherited weights (`Supernet.keep`).

        A soup, and whatever learns its gates (`Supernet.learn_gates`), keeps all support tensors stored.
        """
        if isinstance(subnet, Subnet) and not learn_gates:
            self.supernet.keep(subnet)
            return
        self.supernet.set(subnet)
        self._gates = self.supernet.learn_gates() if learn_gates else {}

    def kept(self) -> Subnet | Soup:
        """What the model computes: the subnet or soup of `keep`, or the soup that its learned gates are now."""
        return self.supernet.current

    def trainable(self) -> dict[str, nn.Parameter]:
        """All stored support tensors, the head, and gates that are learned."""
        return super().trainable() | self._gates

    def no_decay(self) -> Collection[str]:
        """The gates."""
        return self._gates.keys()

    def use_static_graph(self) -> None:
        """One graph for all subnets, as compilers want; call it when the model is on its device."""
        self.supernet.use_static_graph()

    def evaluator(self) -> MergedEvaluator:
        """One plain model for all subnets."""
        return MergedEvaluator(self.supernet)

    def before_step(self, rng: random.Random) -> None:
        """An independent uniform draw per layer (paper section 3.4)."""
        self.supernet.sample(rng)
