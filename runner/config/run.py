"""What a run is, decided once: the frozen value that every stage takes, made by `runner.config.resolve`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from data import OwnImages, TaskInfo
from glora.backbones import Backbone
from glora.methods import Method
from glora.recipe import Recipe
from glora.search import Search
from glora.search.selection import OBJECTIVES
from runner.config.compute import Compute
from runner.config.grid import Grid, Point
from runner.config.protocol import Protocol

PLACES = ("output_root", "data_root", "device", "logger", "hydra", "details", "jobs", "dry_run")
"""Overrides that say where a run lies, what computes it and what is shown: none of its name."""

SELECTED_BY = {objective: f"by {objective}" for objective in OBJECTIVES if objective != "accuracy"}
"""Forms of a run that say what the search went by, where that is not the accuracy of the paper."""


@dataclass(frozen=True)
class Shots:
    """Which few-shot or domain-generalisation lists: images per class, list seed, augmentation, classes counted."""

    shots: int
    list_seed: int
    augmentation: str
    class_subset: str


@dataclass(frozen=True)
class DataChoice:
    """Where the images of the task come from and what the backbone sees of them.

    `shots` and `own` are None for tasks that are neither few-shot lists nor the user's own images.
    """

    root: Path
    source: str | None
    codec: str
    resize: str
    image_size: int
    normalization: str | Mapping[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    shots: Shots | None = None
    own: OwnImages | None = None


@dataclass(frozen=True)
class MethodChoice:
    """The method's class, all its options, and what follows from them."""

    kind: type[Method]
    options: Mapping[str, Any]
    label: str

    @property
    def name(self) -> str:
        """What `method=` takes."""
        return self.kind.name

    @property
    def searched(self) -> bool:
        """Whether it is a supernet, so that a search comes between training and evaluating."""
        return self.kind.searches(self.options)

    @property
    def retrained(self) -> bool:
        """Whether the winner of the search is trained anew instead of inheriting the supernet's weights."""
        return self.searched and self.kind.retrained

    def with_options(self, **options: Any) -> MethodChoice:
        """The same method with some options changed."""
        changed = {**self.options, **options}
        return MethodChoice(self.kind, changed, self.kind.row_label(changed))


def alone(recipe: Recipe, epochs: int, lr: float | None) -> Recipe:
    """A supernet's recipe for one subnet by itself: nothing is drawn or averaged; `lr` None: the recipe's."""
    lr = recipe.lr if lr is None else lr
    return replace(recipe, epochs=epochs, lr=lr, sampling="uniform", draws=1, distill=False, ema=None)


UNSEARCHED = {"mean": "averages the whole space", "largest": "is all of the space at once"}
"""The winners that no search finds but the space alone gives, and what each is; no limit holds for them."""


@dataclass(frozen=True)
class SearchChoice:
    """The search over a supernet: its class and settings, its directory, and the recipe of a retrained winner.

    `settings` are keyword arguments of the class, the limits included; `selection_images` cuts the selection split,
    `max_share` the subnets' size to that part of the largest. `winner` is the form that is handed over; it trains on
    for `finetune_epochs` at `finetune_lr` (None: the supernet's), with `learn_gates` the gates of its choices too, and
    with `scratch` a comparator does so from the winner's initialization. So many `random_subnets` are measured on test
    beside it.
    """

    name: str
    kind: type[Search[Hashable]]
    settings: Mapping[str, Any]
    selection_images: int
    directory: Path
    retrain: Recipe | None
    winner: str = "subnet"
    soup_size: int = 10
    max_share: float | None = None
    finetune_epochs: int = 0
    finetune_lr: float | None = None
    scratch: bool = False
    learn_gates: bool = False
    random_subnets: int = 20

    def described(self) -> dict[str, Any]:
        """Every setting, as JSON values."""
        shown = {k: v for k, v in vars(self).items() if k not in ("kind", "directory", "settings", "retrain")}
        retrain = None if self.retrain is None else vars(self.retrain)
        return {**shown, "settings": dict(self.settings), "retrain": retrain}

    @property
    def searches(self) -> bool:
        """Whether candidates are evaluated; else the winner is one of `UNSEARCHED`."""
        return self.winner not in UNSEARCHED

    @property
    def asked(self) -> dict[str, Any]:
        """What decides the search itself; the rest of `described` says what becomes of its winner."""
        return {k: v for k, v in self.described().items() if k in ("name", "settings", "selection_images", "max_share")}

    @property
    def max_params(self) -> int | None:
        """The limit on the subnets' parameters."""
        limit: int | None = self.settings["max_params"]
        return limit


@dataclass(frozen=True)
class Tracking:
    """Where metrics go besides the run directory, and whether the terminal shows every table."""

    wandb: str
    project: str
    details: bool
    group: str | None = None


@dataclass(frozen=True)
class Run:
    """One training run and what follows it. Nothing about it is decided later.

    `identity` is what names the directory; `recipe_digest` is what the seeds and tasks of one table row share.
    `eval_every` is in epochs; `trainer` names the recipe's config.
    """

    task: TaskInfo
    data: DataChoice
    backbone: Backbone
    method: MethodChoice
    recipe: Recipe
    trainer: str
    eval_every: int
    protocol: Protocol
    hparams: str
    grid: Grid | None
    search: SearchChoice | None
    compute: Compute
    tracking: Tracking
    seed: int
    export: str
    output_root: Path
    directory: Path
    identity: Mapping[str, Any]
    recipe_digest: str
    overrides: tuple[str, ...] = ()
    """What was typed."""

    @property
    def named_by(self) -> tuple[str, ...]:
        """The overrides that name the run: all but `PLACES`."""
        return tuple(o for o in self.overrides if o.lstrip("+~").partition("=")[0].partition(".")[0] not in PLACES)

    @property
    def form(self) -> str:
        """How supernet, search and winner differ from the paper's, for the names of rows; empty where they do not."""
        r, s, found = self.recipe, self.search, []
        if s is None:
            return ""
        if r.sampling != "uniform":
            found.append(r.sampling)
        found += [f"{r.draws} draws"] * (r.draws > 1) + ["distilled"] * r.distill + ["EMA"] * int(r.ema is not None)
        if s.searches and (by := SELECTED_BY.get(s.settings.get("fitness", "accuracy"))):
            found.append(by)
        if s.max_share is not None:
            found.append(f"{'members ' * (s.winner != 'subnet')}up to {100 * s.max_share:.0f} %")
        found += [s.winner.replace("_", " ")] * (s.winner != "subnet")
        found += [f"tuned {s.finetune_epochs} epochs"] * (s.finetune_epochs > 0)
        return ", ".join(found + ["learned gates"] * s.learn_gates)

    @property
    def result_directory(self) -> Path:
        """Where the result goes: the search's directory for a supernet, else the run's."""
        return self.directory if self.search is None else self.search.directory

    def at_point(self, point: Point) -> Run:
        """The run with the values of one grid point; its identity is still that of the whole grid."""
        options = self.method.kind.options()
        chosen = {k: type(options[k])(v) for k, v in point.items() if k in options}
        lr, decay = (point.get(k, getattr(self.recipe, k)) for k in ("lr", "weight_decay"))
        drop_path = point.get("drop_path", self.backbone.drop_path_rate)
        return replace(
            self,
            method=self.method.with_options(**chosen),
            recipe=replace(self.recipe, lr=lr, weight_decay=decay),
            backbone=replace(self.backbone, drop_path_rate=drop_path),
        )

    def retraining(self, subnet: str) -> Run:
        """The training of the search's winner: the method with that one subnet, and the recipe of retraining."""
        if self.search is None or self.search.retrain is None:
            raise ValueError(f"the winner of method={self.method.name} is not trained anew")
        recipe = self.search.retrain
        identity = {**self.identity, "method": {**self.identity["method"]}}
        identity["method"]["options"] = {**self.identity["method"]["options"], "subnet": subnet}
        identity["trainer"] = {**self.identity["trainer"], "epochs": recipe.epochs}
        identity["optimizer"] = {**self.identity["optimizer"], "lr": recipe.lr}
        return replace(
            self, method=self.method.with_options(subnet=subnet), recipe=recipe, search=None, identity=identity
        )
