"""`hparams=val_grid` through the command line, with a kill in the middle."""

import json

import pytest
from safetensors.torch import load_file

from tests.helpers.commands import kill_when
from tests.helpers.small_runs import command, only, run

GRID = "hparams=val_grid"


@pytest.mark.slow
def test_a_killed_grid_resumes_and_its_chosen_run_is_the_run_with_those_overrides(tmp_path, data_root):
    overrides = ["method=lora", "+method.grid.lr=[1e-3,1e-2]", "protocol=clean_1000", GRID]
    kill_when(tmp_path, "lr=0.01/resume_train800.pt", command("train.py", tmp_path, data_root, *overrides))
    stamp = only(tmp_path, "lr=0.001/weights.safetensors").stat().st_mtime_ns
    assert not list(tmp_path.rglob("grid.json"))
    early = run("evaluate.py", tmp_path, data_root, *overrides)
    assert early.returncode == 2 and "run train.py with the same overrides first" in early.stderr
    again = run("train.py", tmp_path, data_root, *overrides)
    assert again.returncode == 0 and "resuming after epoch" in again.stdout, again.stderr
    assert only(tmp_path, "lr=0.001/weights.safetensors").stat().st_mtime_ns == stamp
    done = run("evaluate.py", tmp_path, data_root, *overrides, "details=true")
    assert done.returncode == 0 and "chosen on val200" in done.stdout, done.stderr
    record = json.loads(only(tmp_path, "result.json").read_text())
    assert record["grid"] == json.loads(only(tmp_path, "grid.json").read_text())
    assert [p["point"] for p in record["grid"]["points"]] == [{"lr": 1e-3}, {"lr": 1e-2}]
    assert record["val_accuracy"] == max(p["val_accuracy"] for p in record["grid"]["points"])
    assert record["lr"] == record["grid"]["chosen"]["lr"] and record["hparams"] == "val_grid"
    # The chosen lr, given by hand, leads to the same weights in both phases; the second exists once, for that point.
    run_overrides = ["method=lora", f"optimizer.lr={record['lr']}", "protocol=clean_1000"]
    assert run("train.py", tmp_path / "by_hand", data_root, *run_overrides).returncode == 0
    directory = only(tmp_path, "grid.json").parent
    assert len(list(directory.rglob("weights_1000.safetensors"))) == 1
    for name in ("weights.safetensors", "weights_1000.safetensors"):
        one, two = load_file(directory / name), load_file(only(tmp_path / "by_hand", name))
        assert one.keys() == two.keys() and all((one[k] == two[k]).all() for k in one)


@pytest.mark.slow
def test_a_supernets_grid_is_judged_by_its_fixed_subnets_and_searched_at_the_chosen_learning_rate(tmp_path, data_root):
    overrides = [GRID, "trainer.epochs=1", "trainer.max_steps=2", "trainer.lr_factors=[1,2]"]
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, tmp_path, data_root, *overrides)
        assert done.returncode == 0, done.stderr
    record = json.loads(only(tmp_path, "result.json").read_text())
    for point in record["grid"]["points"]:
        assert set(point["val"]) == {"largest", "smallest", "random0", "random1", "random2"}
        assert point["val_accuracy"] == pytest.approx(sum(point["val"].values()) / 5)
    assert record["lr"] == record["grid"]["chosen"]["lr"]
    assert "nothing to do" in run("train.py", tmp_path, data_root, *overrides).stdout
