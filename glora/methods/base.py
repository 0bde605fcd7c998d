"""What every method offers: attach, say what trains, count it, merge, save and load only itself."""

from __future__ import annotations

import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Hashable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor, nn

from glora.attach import Adapted, call_every_linear, plain_copy, replace_module
from glora.options import MOST_RANK
from glora.search.interface import Member, Space
from glora.state import find_classifier, load_trained, parameters_of, trained_state


class NotMergeable(ValueError):
    """The method has no plain model of the original architecture; the message says why mathematically."""


METHODS: dict[str, type[Method]] = {}
"""Every method by name; a class with a `name` of its own enters when it is defined."""

GROUPS = ("traditional", "efficient", "searched")
"""The groups of methods, in the order in which tables and sweeps list them."""


class Method(ABC):
    """An adaptation of `model`, made in place by the constructor; everything that does not train is frozen.

    The constructor's keyword arguments, with their defaults, are the method's options (Table 1's setting by default).
    What the framework knows of a method beyond its options stands here too:

    Attributes:
        name: what `method=` takes.
        label: the row's name in tables (`row_label` adds what the options change).
        group: one of `GROUPS`.
        paper_rows: for a table of the GLoRA paper, the files of configs/method that make this method's rows there.
        known_params: trainable parameters without head under the default options, by backbone family; what a test holds
            the code against. A family that is missing is one that the method is not defined on.
        mergeable: `merge` gives a plain model.
        eval_backbone: while training, the backbone stays in eval mode.
        ours_on_swin: no publication defines it on a Swin; what it is there is this project's.
        retrained: the winner of a search is trained anew, as the same method with the option `subnet`, the winner's
            text; else it keeps the supernet's weights.
        keeps_winner: what its search finds can be held alone and trained on (`Searched.keep`), and averaged.
        static_graph: the method can train as one graph for all subnets (`use_static_graph`).
        independent_genes: its subnets' choices are independent of each other, as samplers that are fair to each need.
        published_note: why `hparams=published` is refused, where that is not for want of a table.
    """

    name: ClassVar[str]
    label: ClassVar[str]
    group: ClassVar[str] = "efficient"
    paper_rows: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    known_params: ClassVar[Mapping[str, int]] = {}
    mergeable: ClassVar[bool] = True
    eval_backbone: ClassVar[bool] = False
    ours_on_swin: ClassVar[bool] = False
    retrained: ClassVar[bool] = False
    keeps_winner: ClassVar[bool] = False
    static_graph: ClassVar[bool] = False
    independent_genes: ClassVar[bool] = False
    published_note: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name")
        if name is None:
            return
        known = METHODS.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two methods are called {name!r}: {known.__module__} and {cls.__module__}")
        if "label" not in cls.__dict__ or cls.group not in GROUPS:
            raise ValueError(f"method {name!r} needs a label, and a group of {', '.join(GROUPS)}")
        METHODS[name] = cls

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.head = find_classifier(model)
        model.requires_grad_(False)
        call_every_linear(model)
        if self.head is not None:
            self.head.requires_grad_(True)

    @classmethod
    def options(cls) -> dict[str, Any]:
        """Every option with its default."""
        parameters = list(inspect.signature(cls).parameters.values())[1:]
        return {p.name: p.default for p in parameters}

    @classmethod
    def check_options(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """All options, the given ones in place of their defaults.

        Raises:
            ValueError: for an option that does not exist, has another type than its default, is no probability where
                one is meant, or is a number beyond what memory or float32 holds.
        """
        known = cls.options()
        allowed = f"allowed: {', '.join(f'{k}={v!r}' for k, v in known.items())}" if known else "it has no options"
        checked = dict(known)
        for key, value in values.items():
            if key not in known:
                raise ValueError(f"method={cls.name} has no option {key!r}; {allowed}")
            kind = type(known[key])
            if kind is float and type(value) is int:
                value = float(value)
            if kind is tuple and isinstance(value, list):
                value = tuple(value)
            if known[key] is not None and type(value) is not kind:
                raise ValueError(f"method={cls.name}: option {key}={value!r} is no {kind.__name__}; {allowed}")
            if isinstance(value, (int, float)):
                most = 1e30 if isinstance(value, float) else 2**32 - 1 if key == "seed" else MOST_RANK
                if not -most <= value <= most:  # NaN too
                    raise ValueError(f"method={cls.name}: option {key}={value} must be at most {most:.10g}")
            if key in ("dropout", "drop_path") and not 0 <= value < 1:
                raise ValueError(f"method={cls.name}: option {key}={value} must be a probability, from 0 up to 1")
            checked[key] = value
        return checked

    @classmethod
    def row_label(cls, options: Mapping[str, Any]) -> str:
        """The row's name in tables for these options."""
        return cls.label

    @classmethod
    def searches(cls, options: Mapping[str, Any]) -> bool:
        """Whether a method with these options is a supernet, whose subnets are searched (`Searched`)."""
        return False

    @classmethod
    def for_task(cls, options: Mapping[str, Any], task: str) -> dict[str, Any]:
        """The options with what stands for a task's own value filled in. Raises ValueError if the task has none."""
        return dict(options)

    def head_parameters(self) -> dict[str, nn.Parameter]:
        """Weight and bias of the classifier by full name; found by identity, never by a name."""
        return parameters_of(self.model, self.head)

    @abstractmethod
    def trainable(self) -> dict[str, nn.Parameter]:
        """What trains, by full name, the head included."""

    def params(self) -> int:
        """Trainable parameters, head not counted."""
        head = self.head_parameters()
        return sum(p.numel() for n, p in self.trainable().items() if n not in head)

    def no_decay(self) -> Collection[str]:
        """Names of trainable parameters that get no weight decay, whatever the recipe says."""
        return set()

    def before_step(self, rng: random.Random) -> None:  # noqa: B027 (a hook that most methods leave empty)
        """Called before every training step, but for a supernet whose `Trainer` draws the subnets (`Recipe`)."""

    def use_static_graph(self) -> None:
        """Train as one graph for all subnets. Raises ValueError for a method without that form (`static_graph`)."""
        raise ValueError(f"method={self.name} has no static form")

    @abstractmethod
    def merge(self) -> nn.Module:
        """A plain model of the original architecture that computes the same function.

        Raises:
            NotMergeable: with the reason, if there is none.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Only what was trained, as detached CPU copies."""
        return trained_state(self.trainable())

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of `state_dict`. Raises ValueError, changing nothing, if the tensors do not fit."""
        load_trained(self.trainable(), state)


Evaluated = TypeVar("Evaluated", bound=Hashable, contravariant=True)


class Evaluator(Protocol[Evaluated]):
    """Gives any subnet as a model without allocating one each."""

    def write(self, subnet: Evaluated) -> nn.Module:
        """A model in eval mode that computes `subnet`, valid until the next `write`."""


class Searched(Method, Generic[Member]):
    """A supernet over `space`: it trains all subnets at once, and a search chooses one of them."""

    space: Space[Member]

    @classmethod
    def searches(cls, options: Mapping[str, Any]) -> bool:
        """True unless the options fix the subnet."""
        return True

    @abstractmethod
    def set(self, subnet: Member) -> None:
        """Make the model compute `subnet`. Raises ValueError if it is not in the space."""

    @abstractmethod
    def evaluator(self) -> Evaluator[Member]:
        """What evaluates subnets with the weights as they are now."""

    def keep(self, subnet: Member, learn_gates: bool = False) -> None:
        """Hold `subnet` alone from now on, with the weights of now: only its tensors and the head train and are saved.

        Args:
            subnet: of the space, or an average of its subnets where the method has those.
            learn_gates: the gates of its choices train too.

        Raises:
            ValueError: if it is not in the space, or for a method without this (`keeps_winner`).
        """
        raise ValueError(f"method={self.name} cannot hold one of its subnets alone")

    def kept(self) -> Hashable:
        """What `keep` was given, with its gates as they are now where they are learned.

        Raises:
            ValueError: for a method without `keep`.
        """
        raise ValueError(f"method={self.name} cannot hold one of its subnets alone")


Layer = TypeVar("Layer", bound=Adapted)


class AdaptedLinears(Method, Generic[Layer]):
    """A method whose whole adaptation sits in layers of type `Adapted`, each of which merges into one linear layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.layers: dict[str, Layer] = {}

    def adapt(self, name: str, layer: Layer) -> None:
        """Put `layer` where the linear layer `name` is."""
        self.layers[name] = layer
        replace_module(self.model, name, layer)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Everything that the added layers own, and the head."""
        base = {id(t) for layer in self.layers.values() for t in (layer.weight, layer.bias)}
        own = {f"{n}.{k}": p for n, m in self.layers.items() for k, p in m.named_parameters() if id(p) not in base}
        return own | self.head_parameters()

    def merge(self) -> nn.Module:
        """Every adapted layer as the plain one it equals."""
        return plain_copy(self.model, {n: layer.merge() for n, layer in self.layers.items()})
