"""The real command line: train, search and evaluate on the embedded data, resuming after kill -9, and bad overrides."""

import errno
import json
import os
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from runner import cli, quickstart
from tests.helpers import ROOT
from tests.helpers.commands import forked, fresh, kill_when
from tests.helpers.small_runs import SMALL, command, only, run


def test_train_search_evaluate_and_rerun(tmp_path, data_root):
    for script in ("train.py", "search.py", "evaluate.py"):
        done = fresh(command(script, tmp_path, data_root))
        assert done.returncode == 0, done.stderr
    assert "GLoRA-8-4" in done.stdout
    record = json.loads(only(tmp_path, "result.json").read_text())
    assert record["protocol"] == "clean" and record["training_images"] == 800
    assert set(record["comparators"]) == {"images", "largest", "random_subnets", "random_search"}
    assert record["search_seconds"] > 0 and 100 < record["peak_memory_mb"] < 4000  # torch alone takes a few hundred
    stamp = only(tmp_path, "weights.safetensors").stat().st_mtime_ns
    assert "nothing to do" in run("train.py", tmp_path, data_root, "optimizer.unused_grad=zero").stdout
    assert only(tmp_path, "weights.safetensors").stat().st_mtime_ns == stamp


def test_killed_training_and_search_resume_to_the_same_bits(tmp_path, data_root):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run("train.py", whole, data_root).returncode == 0
    kill_when(broken, "resume_train800.pt", command("train.py", broken, data_root))
    again = run("train.py", broken, data_root)
    assert again.returncode == 0 and "resuming after epoch" in again.stdout
    one, two = (load_file(only(r, "weights.safetensors")) for r in (whole, broken))
    assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)
    assert run("search.py", whole, data_root).returncode == 0
    kill_when(broken, "evolution.json", command("search.py", broken, data_root))
    assert run("search.py", broken, data_root).returncode == 0
    for name in ("evolution.json", "random.json", "best.json"):
        assert only(whole, name).read_text() == only(broken, name).read_text()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=cifar10"], "cifar100"),
        (["+foo=1"], "unknown key foo=1"),
        (["trainer.epoch=3"], "error: unknown key trainer.epoch; did you mean trainer.epochs=?"),
        (["search.foo=3"], "error: unknown key search.foo; known keys of search: name, seed, generations"),
        (["seed.a=3"], "seed.a=3"),
        (["search.seed.a=3"], "error: unknown key search.seed.a; search.seed has no keys"),
        (["method.recipe.epoch=1"], "error: unknown key method.recipe.epoch; did you mean method.recipe.epochs=?\n"),
        (
            ["protocol.max_params.vit_b16=9"],
            "protocol.max_params has no keys; a new one takes a +: +protocol.max_params.vit",
        ),
        (["method=glora_plus", "method.search.max_params=9"], "=?; a new one takes a +: +method.search.max_params=9"),
        (["trainer.epochs=many"], "Integer"),
        (["ranks=[4,8]"], "write [8, 4]"),
        (["protocol=mine"], "clean_1000"),
    ],
)
def test_a_mistake_is_one_clear_message(tmp_path, data_root, overrides, message):
    done = run("train.py", tmp_path, data_root, *overrides)
    assert done.returncode != 0 and message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["output_root=/dev/null/runs"], "/dev/null/runs/digits/"),
        (["backbone.image_size=60", "backbone.kwargs={img_size:64,patch_size:16,embed_dim:32,depth:1,num_heads:2}"],
         "backbone.image_size=60 does not fit vit_tiny_patch16_224"),
        (["backbone=timm", "backbone.timm_name=vit_tiny_patch16_384", "+backbone.kwargs.depth=1"],
         "write backbone.image_size=384"),
    ],
)  # fmt: skip
def test_what_only_the_machine_or_the_model_refuses_is_one_message_too(tmp_path, data_root, overrides, message):
    roots = [f"output_root={tmp_path}", f"data_root={data_root}"]
    done = forked(["train.py", "dataset=digits", "trainer=mini", "backbone.pretrained=false", *roots, *overrides])
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_full_disk_is_one_message(tmp_path, data_root, monkeypatch, capsys):
    def full(stage):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere/train.json")

    monkeypatch.setattr(sys, "argv", ["train.py", *SMALL, f"output_root={tmp_path}", f"data_root={data_root}"])
    with pytest.raises(SystemExit):
        cli.main(full)
    assert "somewhere/train.json: No space left on device" in capsys.readouterr().err


def test_a_task_without_data_names_the_command_that_prepares_it(tmp_path, data_root):
    overrides = ["dataset=cifar100", f"output_root={tmp_path}", f"data_root={data_root}"]
    done = forked(["train.py", *overrides])
    assert done.returncode == 2 and "python prepare.py dataset=cifar100" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_weights_are_named_and_a_hub_that_refuses_is_not_waited_for(tmp_path, data_root):
    overrides = ["dataset=digits", "backbone=swin_b_in22k", f"output_root={tmp_path}", f"data_root={data_root}"]
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | {"HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "train.py", *overrides]
    # The hub's own retries would take minutes; the limit only ends a process that waits for them.
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 2 and "backbone.weights=/path/to/model.safetensors" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_dataset_is_one_clear_message(tmp_path):
    for script in ("train.py", "search.py", "export.py"):
        done = forked([script, f"output_root={tmp_path}"])
        assert done.returncode == 2 and "dataset=<id>" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_all_three_protocols_and_the_probe(tmp_path, data_root):
    for protocol in ("clean_1000", "reference_2023_06"):
        for method, scripts in (("linear", ("train", "evaluate")), ("glora", ("train", "search", "evaluate"))):
            for script in scripts:
                done = run(f"{script}.py", tmp_path, data_root, f"protocol={protocol}", f"method={method}")
                assert done.returncode == 0, done.stderr
    records = [json.loads(p.read_text()) for p in tmp_path.rglob("result.json")]
    assert len(records) == 4 and all(r["training_images"] == 1000 for r in records)
    assert {r["selected_on_test"] for r in records if r["protocol"] == "reference_2023_06"} == {True}
    # Both rows of the accuracy table and the row of the search table.
    assert (tmp_path / "tables" / "table.md").read_text().count("selected on test") == 3
    assert " ".join(done.stdout.split()).count("selected on") == 2  # the short table says it too


def test_a_sweep_goes_on_after_a_failed_job_and_says_so_in_the_end(tmp_path, data_root):
    shared = [*SMALL[1:], "method=linear", "backbone=vit_micro", f"output_root={tmp_path}", f"data_root={data_root}"]

    def sweep(script, tasks):
        return forked([script, "-m", f"dataset={tasks}", *shared])

    done = sweep("train.py", "digits,cifar100,textures")
    assert done.returncode == 2 and "prepare.py dataset=cifar100" in done.stderr
    assert {p.parent.parent.name for p in tmp_path.rglob("weights.safetensors")} == {"digits", "textures"}
    table = sweep("evaluate.py", "digits,textures")
    assert table.returncode == 0 and table.stdout.count("Textures") > 0
    assert table.stdout.count("table.tex") == 1  # shown once, not after each of the two runs
    assert "Textures" in (tmp_path / "tables" / "table.tex").read_text()


@pytest.mark.slow
def test_a_launcher_of_other_processes_brings_back_what_failed_and_what_was_measured(tmp_path, data_root):
    overrides = [*SMALL[1:], "method=linear", "backbone=vit_micro", f"output_root={tmp_path}", f"data_root={data_root}"]
    assert forked(["train.py", "dataset=digits", *overrides]).returncode == 0
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    # A fresh interpreter: at the end of a forked one, multiprocessing waits for joblib's idle workers.
    done = fresh(["evaluate.py", "-m", "dataset=digits,cifar100", *overrides, *launcher])
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    (failure,) = [line for line in done.stderr.splitlines() if line.startswith("error in ")]
    assert "dataset=cifar100" in failure and "train.py" in failure
    assert "Digits" in done.stdout and (tmp_path / "tables" / "table.md").is_file()
    assert [path.name for path in (tmp_path / "sweeps").iterdir()] == ["multirun.yaml"]


def quickstart_overrides(root, data_root):
    overrides = [w for w in SMALL if not w.startswith(("dataset", "trainer=", "search.generations"))]
    small = ["search.generations=1", "backbone.kwargs.depth=1"]
    return [*overrides, *small, f"output_root={root}", f"data_root={data_root}"]


def check_quickstart(printed, root):
    last = printed[printed.rindex("$ python run.py") :]
    for text in ("Linear", "GLoRA-8-4 (by", "GLoRA-8-4 (sandwich", "Digits", "Loc", "candidates.png", "options.png"):
        assert text in last
    results = [json.loads(path.read_text()) for path in root.rglob("result.json")]
    drawn = [r["comparators"]["random_subnets"]["subnets"] for r in results if r["method"] == "glora"]
    assert len(results) == 6 and drawn == [4] * 4


def test_quickstart_in_small_ends_in_a_table_with_all_methods_on_both_tasks(tmp_path, data_root, capsys, monkeypatch):
    def run_forked(command, cwd):
        done = forked(command[1:])
        print(done.stdout, done.stderr)
        return done

    monkeypatch.setattr(quickstart.subprocess, "run", run_forked)
    logged = tmp_path / "digits/run/wandb/media/example.png"  # as W&B keeps what is logged to it
    logged.parent.mkdir(parents=True)
    logged.touch()
    assert quickstart.main(quickstart_overrides(tmp_path, data_root)) == 0
    printed = capsys.readouterr().out
    check_quickstart(printed, tmp_path)
    assert logged.name not in printed


@pytest.mark.slow  # fresh interpreters
def test_quickstart_in_small_as_the_makefile_runs_it(tmp_path, data_root):
    done = fresh(["-m", "runner.quickstart", *quickstart_overrides(tmp_path, data_root)])
    assert done.returncode == 0, done.stderr
    check_quickstart(done.stdout, tmp_path)


def test_a_baseline_is_measured_and_a_search_over_methods_passes_it_over(tmp_path, data_root):
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, tmp_path, data_root, "hydra.mode=MULTIRUN", "method=ssf", "trainer.epochs=1")
        assert done.returncode == 0, done.stderr
    record = json.loads(only(tmp_path, "result.json").read_text())
    assert record["label"] == "SSF" and record["test_accuracy"] > 0
