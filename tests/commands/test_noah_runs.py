"""NOAH as a run: its recipes, its published and typed subnets, and the whole command line."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from glora.methods.noah_space import NOAHSpace, NOAHSubnet
from glora.methods.noah_subnets import PUBLISHED
from glora.train import Trainer
from runner.config.errors import ConfigError
from runner.stages.inputs import Preprocess
from runner.stages.model import build
from tests.helpers.commands import kill_when
from tests.helpers.composing import resolved
from tests.helpers.small_runs import command, only, run

OVERRIDES = ["method=noah", "search.retrain_epochs=2"]


def test_recipes_of_supernet_retraining_and_given_subnets():
    paper = resolved("dataset=cifar100", "method=noah")
    assert (paper.recipe.lr, paper.recipe.epochs) == (5e-4, 500)
    again = paper.retraining(PUBLISHED["cifar100"]).recipe
    assert (again.lr, again.epochs, again.weight_decay, again.min_lr) == (1e-3, 100, 1e-4, 1e-5)
    published = resolved("dataset=cifar100", "method=noah", "method.options.subnet=published")
    assert published.recipe == again and not published.method.searched
    assert published.method.label == "NOAH (published subnets)" and paper.method.label == "NOAH"
    mini = resolved("dataset=digits", "method=noah", "trainer=mini")
    assert (mini.recipe.epochs, mini.search.retrain.epochs, mini.search.retrain.lr) == (60, 30, 1.5e-2)
    for overrides, message in (
        (["method=noah", "method.options.subnet=published"], "no published subnet for digits"),
        (["method=glora", "search.retrain_epochs=3"], "only the winner of a search whose method retrains it"),
        (["method=noah", "search.retrain_lr=-1"], "must be positive"),
    ):
        with pytest.raises(ConfigError, match=message):
            resolved("dataset=digits", *overrides)


@pytest.mark.slow  # ten commands
def test_train_search_evaluate_and_a_kill_while_retraining(tmp_path, data_root):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for root in (whole, broken):
        done = run("train.py", root, data_root, *OVERRIDES)
        assert done.returncode == 0, done.stderr
    done = run("evaluate.py", whole, data_root, *OVERRIDES)
    assert done.returncode == 2 and "run search.py" in done.stderr
    assert run("search.py", whole, data_root, *OVERRIDES).returncode == 0
    kill_when(broken, "retrained/resume_train800.pt", command("search.py", broken, data_root, *OVERRIDES))
    assert run("search.py", broken, data_root, *OVERRIDES).returncode == 0
    one, two = (load_file(only(r, "retrained/weights.safetensors")) for r in (whole, broken))
    assert one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)
    for name in ("evolution.json", "random.json", "best.json"):
        assert only(whole, name).read_text() == only(broken, name).read_text()
    again = run("search.py", whole, data_root, *OVERRIDES).stdout
    assert "retrained/weights.safetensors is finished, nothing to do" in again
    done = run("evaluate.py", whole, data_root, *OVERRIDES)
    assert done.returncode == 0 and "NOAH" in done.stdout, done.stderr
    record, best = (json.loads(only(whole, f"{n}.json").read_text()) for n in ("result", "best"))
    head = 32 * 10 + 10
    assert record["params"] == best["params"] == sum(t.numel() for t in one.values()) - head
    assert record["val_accuracy"] == best["val_accuracy"] and record["training_images"] == 800
    logged = json.loads(only(whole, "retrained/train_train800.json").read_text())["rows"][-1]["val/accuracy"]
    assert record["retrained_val_accuracy"] == logged
    done = run("export.py", whole, data_root, *OVERRIDES)
    assert done.returncode == 2 and "method=noah cannot be merged" in done.stderr


def test_the_published_subnet_of_a_task_trains_in_small():
    small = "+backbone.kwargs={img_size:32,patch_size:16,embed_dim:32,depth:12,num_heads:2}"
    overrides = ["backbone=vit_b16_in21k", "backbone.pretrained=false", "backbone.image_size=32", "device=cpu", small]
    c = resolved("dataset=svhn", "method=noah", "method.options.subnet=published", *overrides)
    method, recipe = build(c), replace(c.recipe, warmup_lr=1e-3)
    assert method.params() == NOAHSpace(12, 32).params(NOAHSubnet.parse(PUBLISHED["svhn"]))
    trainer = Trainer(method.model, method.trainable(), recipe, Preprocess(c), before_step=method.before_step)
    images, labels = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8), torch.arange(64) % 10
    losses = [trainer.train_epoch(images, labels)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    with pytest.raises(ConfigError, match="the subnet has 12 blocks, the model 2"):
        build(resolved("dataset=svhn", "method=noah", "method.options.subnet=published",
                                *overrides[:-1], small.replace("12", "2")))  # fmt: skip


@pytest.mark.slow
def test_under_clean_1000_the_winner_alone_sees_all_images(tmp_path, data_root):
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, tmp_path, data_root, *OVERRIDES, "protocol=clean_1000")
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("weights_1000.safetensors"))
    assert only(tmp_path, "retrained/train_train800val200.json") and only(tmp_path, "train_train800.json")
    assert json.loads(only(tmp_path, "result.json").read_text())["training_images"] == 1000


def test_a_typed_subnet_trains_without_a_search(tmp_path, data_root):
    overrides = ["method=noah", "method.options.subnet='5 1 | 1 10 | 5 5'"]
    done = run("search.py", tmp_path, data_root, *overrides)
    assert done.returncode == 2 and "one subnet it was given" in done.stderr
    for script in ("train.py", "evaluate.py"):
        done = run(script, tmp_path, data_root, *overrides)
        assert done.returncode == 0, done.stderr
    assert "NOAH (given subnet)" in done.stdout
    record = json.loads(only(tmp_path, "result.json").read_text())
    assert record["params"] == NOAHSpace(2, 32).params(NOAHSubnet.parse("5 1 | 1 10 | 5 5"))
