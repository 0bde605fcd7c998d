"""From the `method` keys to a method with all its options, and the recipe that it trains with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from data import SHOT_ROWS
from glora.backbones import takes_drop_path
from glora.methods import METHODS, Method
from glora.recipe import Recipe
from glora.sampling import SAMPLERS
from runner.config.grid import RECIPE_AXES, Grid, axes_of, checked
from runner.config.identity import SHORTHANDS
from runner.config.method_schema import RecipeConf, TrainerRecipeConf
from runner.config.run import MethodChoice, alone
from runner.config.schema import SupernetConf, TrainConf


def read_method(conf: TrainConf, typed: Collection[str]) -> tuple[MethodChoice | None, list[str]]:
    """The method with its checked options, and what is wrong with them; None where that leaves no method."""
    kind = METHODS.get(conf.method.name)
    if kind is None:
        return None, [f"method={conf.method.name} is not one of {', '.join(sorted(METHODS))}"]
    values, problems = _with_shorthands(conf, kind)
    dataset = None if conf.dataset is None else conf.dataset.id
    try:
        options = kind.check_options(values)
        if dataset is not None:
            kind.for_task(options, dataset)
    except ValueError as error:
        return None, [*problems, f"method.options: {error}"]
    if conf.hparams == "published":
        problems += _published_problems(conf, kind, options)
        if not problems and dataset is not None:
            published = conf.method.published[dataset]
            options |= {k: type(options[k])(v) for k, v in published.items()
                        if k in options and not is_typed(kind, options, k, typed)}  # fmt: skip
    return MethodChoice(kind, options, kind.row_label(options)), problems


def _with_shorthands(conf: TrainConf, kind: type[Method]) -> tuple[dict[str, Any], list[str]]:
    """The given options, those at the top of the config included, and what is given to a method without them."""
    known, values, problems, foreign = kind.options(), dict(conf.method.options), [], []
    owners = " and ".join(f"method={n}" for n, m in METHODS.items() if set(SHORTHANDS) & m.options().keys())
    for key in SHORTHANDS:
        value = getattr(conf, key)
        if value is None:
            continue
        if key in known:
            values[key] = value
            continue
        similar = [f"method.options.{k}=" for k in known if key.rstrip("s") in k]
        if similar:
            problems.append(f"{key}={value} is for {owners} alone; write {', '.join(similar)}")
        elif key != "ranks":  # a sweep over methods passes over the ranks of one of them
            foreign.append(f"{key}={value}")
    return values, problems + ([f"{', '.join(foreign)} is for {owners} alone"] if foreign else [])


def is_typed(kind: type[Method], options: Mapping[str, Any], option: str, typed: Collection[str]) -> bool:
    """Whether the user gave this option, be it with its default value (`typed`: the keys of the command line)."""
    return f"method.options.{option}" in typed or bool(options[option] != kind.options()[option])


def _published_problems(conf: TrainConf, kind: type[Method], options: Mapping[str, Any]) -> list[str]:
    m, problems = conf.method, []
    if kind.published_note:
        return [f"hparams=published: {kind.published_note}"]
    if conf.dataset is not None and conf.dataset.id not in m.published:
        known = f"it has them for {', '.join(m.published)}" if m.published else "its configs/method file holds no table"
        problems.append(f"hparams=published: method={m.name} has no published values for {conf.dataset.id}; {known}")
    for key, value in m.published_with.items():
        if options.get(key) != value:
            found = f"{key}={options.get(key)}"
            problems.append(f"hparams=published: the values of method={m.name} are for {key}={value}, not {found}")
    return problems


def trainer_entry(conf: TrainConf) -> TrainerRecipeConf:
    """What the method takes under this trainer."""
    found = TrainerRecipeConf()
    for entry in filter(None, map(conf.method.trainers.get, conf.trainer.recipes)):
        chosen = {k: v for k, v in vars(entry).items() if v is not None}
        found = replace(found, **chosen | {"search": found.search | entry.search})
    return found


@dataclass(frozen=True)
class Training:
    """How a method trains: its recipe, the backbone's drop path, the grid over both, and the winner's recipe."""

    recipe: Recipe
    drop_path_rate: float
    grid: Grid | None
    retrain: Recipe | None


def read_training(
    conf: TrainConf, method: MethodChoice, images: int, typed: Collection[str]
) -> tuple[Training | None, list[str]]:
    """The recipe of every key that was left open, and what is wrong with the grid or the batch size.

    What was typed wins; then, with `hparams=published`, the method's values for the task; then what the method says for
    this trainer; then the method's own recipe.

    Args:
        conf: the config.
        method: with its options.
        images: how many train first.
        typed: the keys of the command line.
    """
    t, o, problems = conf.trainer, conf.optimizer, []
    retrains = method.kind.retrained and not method.searched  # one given subnet trains as the winner of a search does
    base = conf.method.retrain if retrains else conf.method.recipe
    by_trainer = trainer_entry(conf)
    lr = (by_trainer.retrain_lr if retrains else by_trainer.lr) or base.lr or _task_lr(conf)
    epochs = (by_trainer.retrain_epochs if retrains else by_trainer.epochs) or t.default_epochs
    own = {**asdict(base), "lr": lr, "epochs": epochs or base.epochs} | _published_recipe(conf, method)
    batch, shots = t.batch_size, conf.dataset is not None and conf.dataset.id in SHOT_ROWS
    sampling, found = _sampling(conf, method, own)
    problems += found
    if batch > images and not shots:
        problems.append(f"trainer.batch_size={batch} is more than the {images} training images")
    values = dict(
        lr=_or(o.lr, own["lr"]),
        epochs=_or(t.epochs, own["epochs"]),
        warmup_epochs=_or(t.warmup_epochs, own["warmup_epochs"]),
        batch_size=min(batch, images),  # one image of each of 37 classes makes no batch of 64
        weight_decay=_or(o.weight_decay, own["weight_decay"]),
        unused_grad=o.unused_grad,
        max_steps=t.max_steps,
        warmup_lr=_or(o.warmup_lr, own["warmup_lr"]),
        min_lr=_or(o.min_lr, own["min_lr"]),
        optimizer=_or(o.name, own["optimizer"]),
        decay_1d=_or(o.decay_1d, own["decay_1d"]),
        schedule=_or(t.schedule, own["schedule"]),
        **sampling,
    )
    try:
        recipe = Recipe(**values)
    except ValueError as error:  # a file of configs/method says so; what is typed has been checked
        return None, [*problems, f"method={method.name}: {error}"]
    grid, found = _read_grid(conf, method, lr, typed)
    drop_path = own["drop_path"] if takes_drop_path(conf.backbone.timm_name) else 0.0
    drop_path_rate = _or(conf.backbone.drop_path_rate, drop_path)
    return Training(recipe, drop_path_rate, grid, _retrain(conf, method, recipe, by_trainer)), problems + found


def _sampling(conf: TrainConf, method: MethodChoice, own: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """How the subnets train: what was typed, else the method's recipe; empty where there are none, or it is wrong."""
    if not method.searched:
        typed = [f"supernet.{k}={v}" for k, v in vars(conf.supernet).items() if v is not None]
        return {}, [f"{', '.join(typed)}: method={method.name} trains no supernet"] if typed else []
    chosen = {f.name: _or(getattr(conf.supernet, f.name), own[f.name]) for f in fields(SupernetConf)}
    sampler, free = SAMPLERS.get(chosen["sampling"]), [n for n, k in SAMPLERS.items() if not k.independent_genes]
    if sampler is not None and sampler.independent_genes and not method.kind.independent_genes:
        return {}, [f"supernet.sampling={sampler.name} is not for method={method.name}; use {' or '.join(free)}"]
    try:
        Recipe(**chosen)
    except ValueError as error:
        return {}, [f"supernet: {error}"]
    return chosen, []


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _task_lr(conf: TrainConf) -> float:
    return 5e-4 if conf.dataset is None else conf.dataset.lr


def _published_recipe(conf: TrainConf, method: MethodChoice) -> dict[str, Any]:
    if conf.hparams != "published" or conf.dataset is None:
        return {}
    values = conf.method.published.get(conf.dataset.id, {})
    return {k: v for k, v in values.items() if k not in method.options}


def _retrain(conf: TrainConf, method: MethodChoice, recipe: Recipe, by_trainer: TrainerRecipeConf) -> Recipe | None:
    if not method.retrained:
        return None
    base: RecipeConf = conf.method.retrain
    typed_epochs, typed_lr = conf.search.get("retrain_epochs"), conf.search.get("retrain_lr")
    epochs = typed_epochs or by_trainer.retrain_epochs or conf.trainer.default_epochs or base.epochs
    lr = typed_lr or by_trainer.retrain_lr or base.lr or _task_lr(conf)
    return alone(recipe, epochs, lr)


def _read_grid(
    conf: TrainConf, method: MethodChoice, lr: float, typed: Collection[str]
) -> tuple[Grid | None, list[str]]:
    unused = sorted(k for k in typed if k.startswith(("method.grid", "trainer.lr_factors")))
    if conf.hparams != "val_grid":
        return None, [f"{', '.join(unused)}: a grid needs hparams=val_grid"] if unused else []
    axes, factors = axes_of(conf.method.grid, conf.trainer.lr_factors, lr, typed)
    if not axes:
        return None, [f"method={method.name} has no grid; give one, as in +method.grid.lr=[1e-4,5e-4]"]
    clean, problems = checked(method.name, axes, method.kind.options())
    fixed = {
        "lr": conf.optimizer.lr is not None,
        "weight_decay": conf.optimizer.weight_decay is not None,
        "drop_path": conf.backbone.drop_path_rate is not None,
    }
    for axis, values in clean.items():
        known = axis in method.options or axis in fixed
        if known and (fixed[axis] if axis in fixed else is_typed(method.kind, method.options, axis, typed)):
            key, listed = RECIPE_AXES.get(axis, f"method.options.{axis}"), ",".join(f"{v:g}" for v in values)
            problems.append(f"{key} is given, but hparams=val_grid chooses {axis} from [{listed}] on val200; leave it "
                            f"out, set the values with method.grid.{axis}=[...], or use hparams=global")  # fmt: skip
    return Grid(clean, factors), problems
