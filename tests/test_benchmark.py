"""The benchmark's command line: tables, JSON with all they need, wrong words; its baseline equals the formula."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import forked

from benchmark import main
from runner.bench_model import Setting, Step

ROOT = Path(__file__).resolve().parent.parent


def run(*words):
    return subprocess.run([sys.executable, "benchmark.py", *words], cwd=ROOT, capture_output=True, text=True)


def test_data_in_small(tmp_path):
    done = run("data", "images=140", "size=48x64", "repeats=2", f"json={tmp_path / 'x.json'}")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 5 and "| cached epoch |" in done.stdout
    found = json.loads((tmp_path / "x.json").read_text())
    assert all(len(v) == 2 and min(v) > 0 for v in found["images_per_second"].values())
    assert found["ratio_to_imagefolder"]["ImageFolder + DataLoader"] == [1.0, 1.0]
    assert found["hardware"]["processor"] and found["versions"]["torch"]


def test_train_and_search_in_small(tmp_path):
    small = ["backbone=vit_micro", "batch=4", "repeats=2", f"json={tmp_path / 'x.json'}"]
    done = run("train", *small)
    assert done.returncode == 0, done.stderr
    assert [line.split(" | ")[0] for line in done.stdout.splitlines()[2:]] == ["| glora", "| reference", "| full"]
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["flops_per_step"]["glora"] < found["flops_per_step"]["reference"]
    assert found["ratio_to_base"]["reference"] == [1.0, 1.0] and min(found["peak_megabytes"].values()) > 100
    assert found["command"].endswith("batch=4 device=cpu precision=fp32 repeats=2")
    done = forked(["benchmark.py", "search", *small, "ranks=[2]"])
    assert done.returncode == 0 and "| merged model |" in done.stdout


def test_a_step_of_the_baseline_has_the_gradients_of_ours():
    steps = {kind: Step(Setting(batch=2), kind) for kind in ("glora", "reference")}
    for step in steps.values():
        step.model.double()
        step.x = step.x.double()
        torch.manual_seed(1)
        for p in step.supernet.trainable().values():
            torch.nn.init.normal_(p, std=0.05)
            p.grad = torch.zeros_like(p)
        step.optimizer = torch.optim.SGD(step.supernet.trainable().values(), lr=0.0)
        step(7)
    ours, plain = (step.supernet.trainable() for step in steps.values())
    assert any(p.grad.any() for p in ours.values())
    for name, p in ours.items():
        torch.testing.assert_close(p.grad, plain[name].grad, rtol=1e-9, atol=1e-10)


WRONG = [(), ("dat",), ("data", "image=3"), ("data", "images=ten"), ("data", "size=9"), ("train", "backbone=vit"),
         ("train", "ranks=[4,8]"), ("search", "precision=fp8"), ("train", "repeats=0")]  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_show_the_usage(words, capsys):
    assert main(list(words)) == 2
    assert "usage:" in capsys.readouterr().err
