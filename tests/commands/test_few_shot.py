"""Few-shot and domain-generalisation tasks through the whole command line, from the lists to the table."""

import hashlib
import json

import pytest

from tests.helpers.commands import forked, kill_when
from tests.helpers.small_shots import shrink

TINY = [
    "trainer=mini", "backbone=vit_micro", "backbone.pretrained=false", "trainer.epochs=2", "logger.wandb=disabled",
    "backbone.kwargs={img_size:32,patch_size:16,embed_dim:32,depth:2,num_heads:2}", "backbone.image_size=32",
    "search.generations=1", "search.population=4", "search.mutants=2", "search.crossovers=2", "ranks=[2]",
]  # fmt: skip


def run(script, root, *overrides):
    return forked([script, *overrides, f"data_root={root}"], before=shrink)


def train_overrides(root, *more):
    return [*TINY, f"output_root={root / 'out'}", *more]


def test_few_shot_from_lists_to_the_table(small_shots):
    pets = ["dataset=oxford_pets_fs", "dataset.shots=4"]
    missing = run("train.py", small_shots, *train_overrides(small_shots, *pets))
    assert missing.returncode == 2 and "python prepare.py dataset=oxford_pets_fs dataset.shots=4" in missing.stderr
    overrides = ["dataset=oxford_pets_fs", "backbone.image_size=32", "dataset.shots=4"]
    assert run("prepare.py", small_shots, *overrides).returncode == 0
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, small_shots, *train_overrides(small_shots, *pets))
        assert done.returncode == 0, done.stderr
    assert "GLoRA-2 (by probability), 4-shot" in done.stdout
    assert (small_shots / "out" / "tables" / "few_shot.png").exists()
    (result,) = (small_shots / "out").rglob("result.json")
    record = json.loads(result.read_text())
    assert (record["suite"], record["shots"], record["list_seed"], record["augmentation"]) == ("few_shot", 4, 0, "timm")
    assert record["training_images"] == 16 and record["resize"] == "bicubic 37, centre crop 32"
    assert "oxford_pets_fs-4shot-list0" in str(result) and len(record["lists_lists"]) == 64
    probe = run("train.py", small_shots, *train_overrides(small_shots, *pets, "method=linear"))
    assert probe.returncode == 0, probe.stderr


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_bits_with_augmentation(small_shots):
    overrides = ["dataset=oxford_pets_fs", "backbone.image_size=32", "dataset.shots=4", "dataset.list_seed=0"]
    assert run("prepare.py", small_shots, *overrides).returncode == 0
    overrides = ["dataset=oxford_pets_fs", "dataset.shots=4", "trainer.epochs=30"]
    digests = []
    for root in ("whole", "broken"):
        more = [*TINY, *overrides, f"output_root={small_shots / root}"]
        if root == "broken":
            kill_when(
                small_shots / root,
                "resume_train800.pt",
                ["train.py", *more, f"data_root={small_shots}"],
                shrink,
            )
        done = run("train.py", small_shots, *more)
        assert done.returncode == 0, done.stderr
        (weights,) = (small_shots / root).rglob("weights.safetensors")
        digests.append(hashlib.sha256(weights.read_bytes()).hexdigest())
    assert "resuming after epoch" in done.stdout and digests[0] == digests[1]


@pytest.mark.slow
def test_domain_generalisation_from_lists_to_the_table(small_shots):
    assert run("prepare.py", small_shots, "sweep=domain_generalization", "backbone.image_size=32").returncode == 0
    overrides = train_overrides(small_shots, "dataset=imagenet_16shot")
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, small_shots, *overrides)
        assert done.returncode == 0, done.stderr
    done = run("evaluate.py", small_shots, *overrides, "dataset.class_subset=dataset")
    assert done.returncode == 0 and "A and R: their 200" in done.stdout and "Sketch" in done.stdout
    records = {
        r["class_subset"]: r for r in (json.loads(p.read_text()) for p in (small_shots / "out").rglob("result.json"))
    }
    assert set(records) == {"none", "dataset"}
    targets = {"imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"}
    assert all(set(r["targets"]) == targets for r in records.values())
    none, subset = records["none"]["targets"], records["dataset"]["targets"]
    assert none["imagenet_v2"] == subset["imagenet_v2"] and subset["imagenet_a"] >= none["imagenet_a"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["dataset=oxford_pets_fs", "dataset.shots=3"], "dataset.shots=3 cannot be used"),
        (["dataset=oxford_pets_fs", "dataset.list_seed=7"], "allowed: 0, 1, 2"),
        (["dataset=oxford_pets_fs", "dataset.class_subset=dataset"], "dataset.class_subset=dataset cannot be used"),
        (["dataset=oxford_pets_fs", "protocol=clean_1000"], "protocol=clean_1000 cannot be used"),
        (["dataset=oxford_pets_fs", "dataset.augmentation=mixup"], "allowed: timm, none"),
        (["dataset=digits", "dataset.shots=4"], "is for few-shot"),
    ],
)
def test_a_mistake_is_one_clear_message(tmp_path, overrides, message):
    done = forked(["train.py", *TINY, *overrides, f"output_root={tmp_path}", f"data_root={tmp_path}"])
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_prepare_says_which_lists_and_images_are_needed(tmp_path):
    command = ["prepare.py", "dataset=stanford_cars", f"data_root={tmp_path}"]
    done = forked(command)
    assert done.returncode == 1 and "missing list" in done.stderr and "Traceback" not in done.stderr
    for text in ("ZhangYuanhan-AI/NOAH", "few-shot/standford-cars/annotations", "cars_train.tgz"):
        assert text in done.stdout
    wrong = forked([*command, "dataset.shots=3"])
    assert wrong.returncode == 2 and "dataset.shots=3 is not one of 1, 2, 4, 8, 16" in wrong.stderr
