"""The measuring stage: test once per finished run, kept in `result.json` and only read from then on."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data import Split, list_info
from glora.backbones import file_sha256, find_weights
from glora.evaluation import accuracy
from glora.methods import Method, Searched
from glora.search import Member
from runner import config as cfg
from runner.build import (
    Preprocess,
    balanced_cut,
    environment,
    load_trained,
    open_tracker,
    split,
    target_splits,
    test_split,
)
from runner.choosing import chosen
from runner.config import REFERENCE, ConfigError
from runner.folder import (
    locked,
    read_best,
    read_json,
    read_subnet,
    read_winner,
    recipe_digest,
    run_folder,
    search_folder,
    write_json,
)
from runner.schema import TrainConf

COMPARED_IMAGES = 1000
"""Test images that comparators see at most: 22 subnets on all of them would cost more than the search."""


def measure(c: TrainConf) -> dict[str, Any]:
    """Measure test once and keep the record; a second call only reads it.

    Raises:
        ConfigError: if training, or the search of a supernet, is not finished.
    """
    run = run_folder(c)
    searched = cfg.searched(c)
    home = search_folder(c, run) if searched else run
    # Another way to count classes is another result of the same run.
    subset = c.dataset is not None and c.dataset.class_subset == "dataset"
    result = home / "class_subset" / "result.json" if subset else home / "result.json"
    if result.exists():
        record: dict[str, Any] = read_json(result)
        return record
    retrained = home / "retrained"
    finished = retrained / "weights.safetensors" if cfg.retrained(c) else home / "best.json"
    if searched and not finished.exists():
        raise ConfigError(f"{run} is not searched yet; run search.py with the same words first")
    c = chosen(c, run)
    with locked(run):
        method, summary = _final(c, run, home)
        prep, info = Preprocess(c), cfg.task(c)
        reference = c.protocol.name == REFERENCE
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
            "batch_size": c.trainer.batch_size,
            "training_seconds": summary["seconds"],
            "peak_memory_mb": summary.get("peak_memory_mb"),
            "params": method.params(),
            "selected_on_test": reference,
            "normalization": c.backbone.normalization,
            "source": test.source,
            "codec": test.codec,
            "resize": test.resize,
            "trainer": c.trainer.name,
            "recipe": recipe_digest(c),
            "lr": cfg.learning_rate(c),
            "precision": c.precision,
            "environment": environment(c),
            "data_hash": {"train": summary["data_hash"], "test": test.content_hash},
            "comparators": {},
        }
        if c.hparams == "val_grid":
            record["grid"] = read_json(run / "grid.json")
        if cfg.is_shots(c):
            record |= _lists_record(c)
        weights = find_weights(cfg.backbone(c))
        record["weights"] = {"tag": c.backbone.timm_name, "sha256": file_sha256(weights) if weights else None}
        if searched and not cfg.retrained(c):
            assert isinstance(method, Searched)
            record |= _measure_subnets(method, home, test, prep)
            plain = method.evaluator().write(read_winner(method.space, home))
        else:
            # As the published baselines do it: the maximum over test, looked at every ten epochs.
            looks = [r["val/accuracy"] for r in summary["rows"] if "val/accuracy" in r]
            plain = method.model
            record["test_accuracy"] = max(looks) if reference else on_test(plain)
            if searched:
                record |= _selection(read_best(home), home)
            elif reference:
                record["val_accuracy"] = None
            else:
                selection = load_trained(c, run, final=False).model
                val = split(c, "val200")
                record["val_accuracy"] = accuracy(selection, val.images, val.labels, prep)
        if cfg.is_shots(c):
            # The winner alone, and nothing is chosen by it.
            record["targets"] = {n: _target_accuracy(plain, s, kept, prep) for n, s, kept in target_splits(c)}
        write_json(result, record)
        with open_tracker(c, home / "evaluate", "evaluate") as tracker:
            tracker.summary({k: v for k, v in record.items() if isinstance(v, (int, float, str, dict))})
    return record


def _final(c: TrainConf, run: Path, home: Path) -> tuple[Method, dict[str, Any]]:
    """The method with the weights that are measured, and the summary of their training (seconds: all trainings)."""
    if not cfg.retrained(c):
        return load_trained(c, run, final=True), read_json(run / f"train_{cfg.final_split(c)}.json")
    training = cfg.retraining(c, read_best(home)["subnet"])
    summary = read_json(home / "retrained" / f"train_{cfg.final_split(c)}.json")
    supernet = read_json(next(run.glob("train_*.json")))
    return load_trained(training, home / "retrained", final=False), {
        **summary,
        "seconds": round(supernet["seconds"] + summary["seconds"], 1),
    }


def _lists_record(c: TrainConf) -> dict[str, Any]:
    """What tells few-shot and domain-generalisation results apart, and the lists they come from."""
    d = c.dataset
    assert d is not None and d.shots is not None and d.list_seed is not None
    info = list_info(d.id, cfg.data_root(c), d.shots, d.list_seed, c.backbone.image_size)
    found = {k: getattr(d, k) for k in ("shots", "list_seed", "augmentation", "class_subset")}
    return found | {f"lists_{k}": info[k] for k in ("lists", "doubled_lines", "overlap")}


class _Restricted(nn.Module):
    """A model whose classes other than `kept` cannot be predicted."""

    def __init__(self, model: nn.Module, kept: list[int]) -> None:
        super().__init__()
        self.model, self.kept = model, kept

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) to logits (B, classes)."""
        logits = self.model(x)
        out = torch.full_like(logits, -torch.inf)
        out[:, self.kept] = logits[:, self.kept]
        return out


def _target_accuracy(model: nn.Module, s: Split, kept: list[int] | None, prep: Preprocess) -> float:
    return accuracy(model if kept is None else _Restricted(model, kept), s.images, s.labels, prep)


def _selection(best: dict[str, Any], home: Path) -> dict[str, Any]:
    """What the search says of its winner; its accuracy is with the supernet's weights, as it was selected."""
    return {
        "params": best["params"],
        "selection_images": best["images"],
        "val_accuracy": best["val_accuracy"],
        "search": home.name,
        "search_seconds": _search_seconds(home, best["search"]),
        "comparators": {"random_search": best["random_search"]},
    }


def _search_seconds(home: Path, name: str) -> float | None:
    """Wall time of the search, without the random search beside it; None for one finished before it was kept."""
    clock = home / f"seconds_{name}.json"
    return read_json(clock)["seconds"] if clock.exists() else None


def _measure_subnets(method: Searched, home: Path, test: Split, prep: Preprocess) -> dict[str, Any]:
    """Test accuracy of the winner and of the declared comparators, none of which selects anything.

    Comparators see at most `COMPARED_IMAGES`, the same ones always, and where those are not all the winner sees them
    by themselves too.
    """
    space, evaluator, best = method.space, method.evaluator(), read_best(home)
    few = balanced_cut(test, COMPARED_IMAGES)

    def on(s: Split, subnet: Member) -> float:
        return accuracy(evaluator.write(subnet), s.images, s.labels, prep)

    winner, rng = read_winner(space, home), random.Random("comparators")
    draws = torch.tensor([on(few, space.sample(rng)) for _ in range(20)])
    return {
        **_selection(best, home),
        "test_accuracy": on(test, winner),
        "comparators": {
            "images": len(few.labels),
            **({} if few is test else {"winner": {"test": on(few, winner)}}),
            "largest": {"test": on(few, space.largest), "params": space.params_range[1]},
            "random20": {"test_mean": draws.mean().item(), "test_sd": draws.std().item()},
            "random_search": {**best["random_search"], "test": on(few, read_subnet(space, home, "random"))},
        },
    }
