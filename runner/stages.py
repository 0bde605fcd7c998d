"""The stages behind the scripts: train, search, measure. Each does nothing if its result is there."""

from __future__ import annotations

import logging
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data import Split, load_split
from glora.backbones import NORMALIZATIONS, build_backbone, file_sha256
from glora.merge import MergedEvaluator
from glora.methods import METHODS, GLoRA, Method
from glora.search import EvolutionSearch, RandomSearch, Search
from glora.space import SearchSpace, Subnet
from glora.train import Normalizer, Trainer, accuracy
from runner import config as cfg
from runner.config import ConfigError, TrainConf
from runner.folder import (
    load_checkpoint,
    locked,
    read_json,
    remove_checkpoints,
    run_folder,
    save_checkpoint,
    search_folder,
    write_json,
    write_text,
)

log = logging.getLogger("glora")
REFERENCE = "reference_2023_06"


class Preprocess:
    """uint8 images to model input: resize on the fly to the backbone's size, then normalise."""

    def __init__(self, c: TrainConf) -> None:
        self.size = c.backbone.image_size
        self.normalize = Normalizer(*NORMALIZATIONS[c.backbone.normalization])

    def __call__(self, images: Tensor) -> Tensor:
        """(B, 3, h, w) uint8 to (B, 3, size, size) float32."""
        if images.shape[-1] != self.size:
            sized = F.interpolate(images.float(), self.size, mode="bicubic", antialias=True)
            images = sized.round().clamp(0, 255).to(torch.uint8)
        return self.normalize(images)


def device_of(c: TrainConf) -> torch.device:
    """The device to run on; "auto" takes CUDA where there is one."""
    if c.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(c.device)


def split(c: TrainConf, name: str) -> Split:
    """One split of the task on the device. The test split has its own door, `test_split`."""
    if name == "test":
        raise AssertionError("the test split is loaded by test_split alone")
    return _on_device(c, name)


def test_split(c: TrainConf) -> Split:
    """The test split: called by `measure`, and under `reference_2023_06` by training and search."""
    return _on_device(c, "test")


def _on_device(c: TrainConf, name: str) -> Split:
    s = load_split(cfg.task(c).id, name, data_root=cfg.data_root(c), source=c.source)
    device = device_of(c)
    return Split(s.images.to(device), s.labels.to(device), s.content_hash)


def build(c: TrainConf) -> Method:
    """Backbone, head and method, on the device."""
    model = build_backbone(cfg.backbone(c), cfg.task(c).num_classes, c.seed)
    torch.manual_seed(c.seed)
    kind = METHODS[c.method.name]
    method = GLoRA(model, c.ranks) if kind is GLoRA else kind(model)
    model.to(device_of(c))
    return method


def fixed_subnets(space: SearchSpace) -> dict[str, Subnet]:
    """What the training log evaluates: the largest, the smallest and three seeded subnets, never a fresh draw."""
    named = {"largest": space.largest, "smallest": space.smallest}
    return named | {f"random{i}": space.sample(random.Random(f"fixed-{i}")) for i in range(3)}


def evaluate_now(method: Method, s: Split, prep: Preprocess) -> dict[str, float]:
    """Accuracy of the fixed subnets of a supernet, or of the method itself."""
    if not isinstance(method, GLoRA):
        return {"accuracy": accuracy(method.model, s.images, s.labels, prep)}
    evaluator = MergedEvaluator(method.supernet)
    subnets = fixed_subnets(method.supernet.space)
    return {n: accuracy(evaluator.write(k), s.images, s.labels, prep) for n, k in subnets.items()}


def train(c: TrainConf) -> Path:
    """Train under the protocol; returns the run folder. Resumes what was killed, skips what is finished."""
    folder = run_folder(c)
    with locked(folder):
        write_json(folder / "config.json", cfg.identity(c))
        phases = [("train800", "weights.safetensors")]
        if c.protocol.name == "clean_1000":
            phases.append(("train800val200", "weights_1000.safetensors"))
        elif c.protocol.name == REFERENCE:
            phases = [("train800val200", "weights.safetensors")]
        for number, (name, file) in enumerate(phases):
            if (folder / file).exists():
                log.info("%s is finished, nothing to do", folder / file)
            else:
                _train_phase(c, folder, name, file, validate=number == 0)
    return folder


def _train_phase(c: TrainConf, folder: Path, split_name: str, file: str, validate: bool) -> None:
    data = split(c, split_name)
    reference = c.protocol.name == REFERENCE
    val = None
    if validate:
        val = test_split(c) if reference else split(c, "val200")
    method, prep = build(c), Preprocess(c)
    if isinstance(method, GLoRA):
        log.info(method.supernet.space.describe())
    trainer = Trainer(method.model, method.trainable(), cfg.recipe(c), prep, c.seed, method.before_step)
    resume = folder / f"resume_{split_name}.pt"
    rows: list[dict[str, Any]] = []
    best = 0.0
    state = load_checkpoint(resume)
    if state is not None:
        trainer.load_state(state["trainer"])
        rows, best = state["rows"], state["best"]
        log.info("resuming after epoch %d", trainer.epoch)
    every = 10 if reference else c.trainer.eval_every
    began = time.time()
    first = trainer.epoch
    while not trainer.done:
        row: dict[str, Any] = {"epoch": trainer.epoch, **trainer.train_epoch(data.images, data.labels)}
        if val is not None and (trainer.epoch % every == 0 or trainer.done):
            found = evaluate_now(method, val, prep)
            row |= {f"val/{k}": v for k, v in found.items()}
            best = max([best, *found.values()])
        rows.append(row)
        save_checkpoint(resume, {"trainer": trainer.state(), "rows": rows, "best": best})
        left = (time.time() - began) / (trainer.epoch - first) * (c.trainer.epochs - trainer.epoch)
        words = " ".join(f"{k} {100 * v:.1f}%" for k, v in row.items() if k.startswith("val/"))
        log.info(
            "epoch %d/%d loss %.3f lr %.2e %s %.0f s left",
            trainer.epoch,
            c.trainer.epochs,
            row["loss"],
            row["lr"],
            words,
            left,
        )
    summary = {
        "split": split_name,
        "data_hash": data.content_hash,
        "images": len(data.labels),
        "steps": trainer.step,
        "rows": rows,
        "best_selected_on_test": best if reference else None,
    }
    write_json(folder / f"train_{split_name}.json", summary)
    part = folder / f"{file}.part"
    save_file({k: v.contiguous() for k, v in method.state_dict().items()}, part)
    part.replace(folder / file)
    remove_checkpoints(resume)


def load_trained(c: TrainConf, folder: Path, final: bool) -> Method:
    """The method with its trained weights; `final` takes those of the 1000 images under `clean_1000`."""
    file = folder / ("weights_1000.safetensors" if final and c.protocol.name == "clean_1000" else "weights.safetensors")
    if not file.exists():
        raise ConfigError(f"{folder} holds no finished training; run train.py with the same words first")
    method = build(c)
    method.load_state_dict(load_file(file))
    method.model.eval()
    return method


def selection_split(c: TrainConf) -> Split:
    """What a search selects on: val200, cut to `search.val_limit` seeded and class-balanced images."""
    s = test_split(c) if c.protocol.name == REFERENCE else split(c, "val200")
    limit = c.search.val_limit
    if len(s.labels) <= limit:
        return s
    order = torch.randperm(len(s.labels), generator=torch.Generator().manual_seed(0)).to(s.labels.device)
    rank = torch.empty_like(order)
    for k in s.labels.unique():
        members = order[s.labels[order] == k]
        rank[members] = torch.arange(len(members), device=order.device)
    chosen = order[rank[order].argsort(stable=True)][:limit].sort().values
    return Split(s.images[chosen], s.labels[chosen], s.content_hash)


def make_search(c: TrainConf, name: str, space: SearchSpace, fitness: Any) -> Search:
    """The search of the config, or random search at the same budget."""
    s = c.search
    shared = {
        "seed": s.seed,
        "generations": s.generations,
        "population": s.population,
        "min_params": s.min_params,
        "max_params": cfg.search_limit(c),
    }
    if name == "random":
        return RandomSearch(space, fitness, **shared)
    return EvolutionSearch(
        space,
        fitness,
        **shared,
        parents=s.parents,
        mutants=s.mutants,
        crossovers=s.crossovers,
        mutation_probability=s.mutation_probability,
    )


def search(c: TrainConf) -> Path:
    """Evolve over the trained supernet, and search at random with equal budget beside it; returns the folder."""
    if not METHODS[c.method.name].searched:
        raise ConfigError(f"method={c.method.name} has no subnets to search; search.py is for method=glora")
    run = run_folder(c)
    folder = search_folder(c, run)
    with locked(run):
        if (folder / "best.json").exists():
            log.info("%s is finished, nothing to do", folder)
            return folder
        method = load_trained(c, run, final=False)
        assert isinstance(method, GLoRA)
        data, prep, space = selection_split(c), Preprocess(c), method.supernet.space
        evaluator = MergedEvaluator(method.supernet)

        def fitness(subnet: Subnet) -> float:
            return accuracy(evaluator.write(subnet), data.images, data.labels, prep)

        log.info(space.describe())
        try:
            winners = {
                n: _run_search(make_search(c, n, space, fitness), folder / f"{n}.json", n)
                for n in dict.fromkeys((c.search.name, "random"))
            }
        except ValueError as error:
            raise ConfigError(str(error)) from error
        for name, best in winners.items():
            write_text(folder / f"subnet_{name}.json", best.subnet.to_json(space.names))
        best = winners[c.search.name]
        rand = winners["random"]
        write_json(
            folder / "best.json",
            {
                "search": c.search.name,
                "val_accuracy": best.accuracy,
                "params": best.params,
                "images": len(data.labels),
                "random_search": {"val": rand.accuracy, "params": rand.params},
            },
        )
    return folder


def _run_search(s: Search, path: Path, name: str) -> Any:
    if path.exists():
        s.load_state(read_json(path))
        log.info("%s search: resuming after generation %d", name, s.generation)
    while not s.done:
        s.step()
        write_json(path, s.state())
        best = s.best()
        log.info(
            "%s search: generation %d/%d best %.1f%% with %s parameters, %d evaluated",
            name,
            s.generation,
            s.generations,
            100 * best.accuracy,
            f"{best.params:,}",
            len(s.candidates),
        )
    return s.best()


def measure(c: TrainConf) -> dict[str, Any]:
    """Measure test once and keep the record; a second call only reads it.

    Raises:
        ConfigError: if training, or for GLoRA the search, is not finished.
    """
    run = run_folder(c)
    kind = METHODS[c.method.name]
    home = search_folder(c, run) if kind.searched else run
    result = home / "result.json"
    if result.exists():
        record: dict[str, Any] = read_json(result)
        return record
    if kind.searched and not (home / "best.json").exists():
        raise ConfigError(f"{run} is not searched yet; run search.py with the same words first")
    with locked(run):
        method, prep, info = load_trained(c, run, final=True), Preprocess(c), cfg.task(c)
        summary = read_json(
            run / ("train_train800val200.json" if c.protocol.name != "clean" else "train_train800.json")
        )
        test = test_split(c)

        def on_test(model: nn.Module) -> float:
            return accuracy(model, test.images, test.labels, prep)

        record = {
            "schema": 1,
            "dataset": info.id,
            "group": info.group,
            "suite": info.suite,
            "method": c.method.name,
            "label": cfg.label(c),
            "ranks": list(c.ranks),
            "backbone": c.backbone.name,
            "protocol": c.protocol.name,
            "hparams": c.hparams,
            "seed": c.seed,
            "training_images": summary["images"],
            "params": method.params(),
            "selected_on_test": c.protocol.name == REFERENCE,
            "normalization": c.backbone.normalization,
            "source": c.source or ("rendered" if info.suite == "mini" else "cache"),
            "codec": "raw",
            "trainer": c.trainer.name,
            "lr": cfg.learning_rate(c),
            "torch": torch.__version__,
            "data_hash": {"train": summary["data_hash"], "test": test.content_hash},
            "comparators": {},
        }
        weights = cfg.weights_path(c)
        record["weights"] = {"tag": c.backbone.timm_name, "sha256": file_sha256(weights) if weights else None}
        if isinstance(method, GLoRA):
            record |= _measure_subnets(method, home, on_test)
        elif c.protocol.name == REFERENCE:
            record |= {"val_accuracy": None, "test_accuracy": summary["best_selected_on_test"]}
        else:
            last = [r for r in read_json(run / "train_train800.json")["rows"] if "val/accuracy" in r][-1]
            record |= {"val_accuracy": last["val/accuracy"], "test_accuracy": on_test(method.model)}
        write_json(result, record)
    return record


def _measure_subnets(method: GLoRA, home: Path, on_test: Any) -> dict[str, Any]:
    """Test accuracy of the winner and of the declared comparators, none of which selects anything."""
    space, evaluator, best = method.supernet.space, MergedEvaluator(method.supernet), read_json(home / "best.json")

    def subnet(name: str) -> Subnet:
        return Subnet.from_json((home / f"subnet_{name}.json").read_text(), space.names)

    rng = random.Random("comparators")
    draws = torch.tensor([on_test(evaluator.write(space.sample(rng))) for _ in range(20)])
    return {
        "params": best["params"],
        "val_accuracy": best["val_accuracy"],
        "test_accuracy": on_test(evaluator.write(subnet(best["search"]))),
        "search": home.name,
        "comparators": {
            "largest": {"test": on_test(evaluator.write(space.largest)), "params": space.params_range[1]},
            "random20": {"test_mean": draws.mean().item(), "test_sd": draws.std().item()},
            "random_search": {**best["random_search"], "test": on_test(evaluator.write(subnet("random")))},
        },
    }
