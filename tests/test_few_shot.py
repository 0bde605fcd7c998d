"""Few-shot and domain-generalisation data: the traps of the lists, the transforms, and the whole command line."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import forked, kill_when
from PIL import Image
from small_shots import CLASSES, COUNTS, make_set, shrink, write_list
from torchvision.transforms import functional as TF

from data import Augmented, DataError, load_pictures, load_shots, load_split, shot_task
from data.augment import eval_image
from data.shot_table import LIST_SEEDS, SHOT_ROWS, SHOTS
from data.shots import build_shots, eval_path, shots_state, train_path

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TINY = [
    "trainer=mini", "backbone=vit_micro", "backbone.pretrained=false", "trainer.epochs=2", "logger.wandb=disabled",
    "backbone.kwargs={img_size:32,patch_size:16,embed_dim:32,depth:2,num_heads:2}", "backbone.image_size=32",
    "search.generations=1", "search.population=4", "search.mutants=2", "search.crossovers=2", "ranks=[2]",
]  # fmt: skip


def test_the_official_sizes():
    sizes = {n: (r.num_classes, *(p.count for p in r.evals.values())) for n, r in SHOT_ROWS.items()}
    assert sizes == {
        "food101": (101, 20200, 30300),
        "stanford_cars": (196, 1635, 8041),
        "oxford_flowers_fs": (102, 1633, 2463),
        "fgvc_aircraft": (100, 3333, 3333),
        "oxford_pets_fs": (37, 736, 3669),
        "imagenet_16shot": (1000, 2959, 50000, 10000, 50889, 7500, 30000),
    }
    assert (SHOTS, LIST_SEEDS) == ((1, 2, 4, 8, 16), (0, 1, 2))
    assert shot_task("fgvc_aircraft", 4).split_sizes["train800"] == 400
    # Cars' lines begin with cars_train/ or cars_test/; the others' images lie in a folder images/.
    assert SHOT_ROWS["stanford_cars"].images == "stanford_cars" and SHOT_ROWS["food101"].images.endswith("/images")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The shrunken table, and a data root whose noah/ folder holds pets and ImageNet."""
    kept = dict(SHOT_ROWS)
    shrink()
    for name in ("oxford_pets_fs", "imagenet_16shot"):
        make_set(SHOT_ROWS[name], tmp_path / "noah")
    yield tmp_path
    SHOT_ROWS.update(kept)


def prepare(root, name="oxford_pets_fs", **words):
    return build_shots(SHOT_ROWS[name], root, size=32, **words)


def test_a_set_is_prepared_once_and_repaired_when_damaged(small):
    row = SHOT_ROWS["oxford_pets_fs"]
    assert prepare(small) and not prepare(small)
    assert shots_state(row, small, 32) == (17, 17)
    test = eval_path(row.id, small, "test", 32)
    test.write_bytes(test.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"damaged.*python prepare.py dataset=oxford_pets_fs"):
        load_shots(row.id, "test", small, 1, 0, 32)
    assert prepare(small) and len(load_shots(row.id, "test", small, 1, 0, 32).labels) == COUNTS["test"]


def test_evaluation_images_are_squashed_to_256_of_224_and_cropped():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (300, 500, 3), dtype=np.uint8))
    expected = image.resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    assert np.array_equal(eval_image(image, 224), np.asarray(expected).transpose(2, 0, 1))
    assert eval_image(image, 64).shape == (3, 64, 64)


def test_doubled_one_shot_lines_count_once_and_are_said(small, caplog):
    prepare(small, shots=[1], seeds=[0])
    pictures = load_pictures("oxford_pets_fs", small, 1, 0, 32)
    assert len(pictures) == CLASSES and pictures.info["doubled_lines"] == CLASSES
    assert "4 repeats are dropped" in caplog.text


def test_selection_images_that_train_are_left_out_of_the_selection(small, caplog):
    prepare(small, "imagenet_16shot")
    assert len(load_shots("imagenet_16shot", "val200", small, 16, 0, 32).labels) == COUNTS["val200"]
    assert len(load_shots("imagenet_16shot", "val200", small, 16, 1, 32).labels) == COUNTS["val200"] - 1
    assert "1 of its images are in the selection list" in caplog.text


def test_imagenets_validation_images_are_found_flat_and_by_class(small):
    prepare(small, "imagenet_16shot")
    flat = load_shots("imagenet_16shot", "test", small, 16, 0, 32)
    home = small / "noah" / "imagenet" / "val"
    for i, label in enumerate(flat.labels.tolist()):
        (home / f"n{label}").mkdir(exist_ok=True)
        shutil.move(home / f"ILSVRC_{i}.JPEG", home / f"n{label}" / f"ILSVRC_{i}.JPEG")
    shutil.rmtree(small / "few_shot")
    prepare(small, "imagenet_16shot")
    assert load_shots("imagenet_16shot", "test", small, 16, 0, 32).content_hash == flat.content_hash


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("../../../etc/passwd 0", "leaves"),
        ("n0/train 0_0_2_0.JPEG 9", "label 9 is not in 0 to 3"),
        ("n0/train 0_0_2_0.JPEG", "is not 'path label'"),
        ("n0/none.JPEG 0", "missing .*none.JPEG"),
        ("n1/train 1_0_2_0.JPEG 0", r":1 and .*:\d+ give one image two labels, 0 and 1: .*/train 1_0_2_0.JPEG"),
        ("n1/train 1_0_4_0.JPEG 1", "1 images of class 0, not 2"),
    ],
)
def test_a_bad_line_is_named(small, line, said):
    path = small / "noah" / SHOT_ROWS["oxford_pets_fs"].lists / "train_meta.list.num_shot_2.seed_0"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([line, *lines[1:]]) + "\n")
    with pytest.raises(DataError, match=said) as caught:
        prepare(small)
    assert str(path.name) in str(caught.value)
    assert not list(small.rglob("few_shot/**/*.safetensors"))


def test_wrong_counts_and_missing_lists_are_named(small):
    row = SHOT_ROWS["oxford_pets_fs"]
    write_list(small / "noah", row.evals["test"].path, "x", [("a.jpg", 0)] * 3, make=False)
    with pytest.raises(DataError, match="test_meta.list has 3 lines; test of oxford_pets_fs has 8"):
        prepare(small)
    shutil.rmtree(small / "noah" / row.lists)
    with pytest.raises(DataError, match="missing list"):
        prepare(small)


def test_an_unprepared_set_says_what_to_type(small):
    with pytest.raises(DataError, match="python prepare.py dataset=food101 shots=4 list_seed=2 size=32"):
        load_shots("food101", "test", small, 4, 2, 32)
    with pytest.raises(DataError, match="use load_shots"):
        load_split("food101", "test", data_root=small)


def augmented(small, seed=0):
    return Augmented(load_pictures("oxford_pets_fs", small, 4, 0, 32), 32, MEAN, STD, seed)


def test_augmentation_is_a_function_of_seed_epoch_and_position(small):
    prepare(small)
    one, index = augmented(small), torch.tensor([3, 0, 7])
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    first = one.batch(index, 2)
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # the generators were left alone
    assert first.shape == (3, 3, 32, 32) and first.dtype == torch.float32
    assert torch.equal(augmented(small).batch(index.flip(0), 2).flip(0), first)
    for other in (one.batch(index, 3), augmented(small, 1).batch(index, 2)):
        assert not torch.equal(other, first)
    # normalised: undone, nothing but erased pixels (noise) leaves the range of colours
    colours = first * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert ((colours > -0.01) & (colours < 1.01)).float().mean() > 0.5


def test_a_run_augments_with_the_mean_and_std_of_its_words(small):
    from composing import resolved

    from runner.stages.inputs import training_set

    prepare(small)
    words = ["dataset=oxford_pets_fs", "dataset.shots=4", "backbone=vit_micro", "backbone.image_size=32", "device=cpu"]
    given = "backbone.normalization={mean:[0.1,0.2,0.3],std:[2,3,4]}"
    images = training_set(resolved(*words, given, f"data_root={small}"), "train800").images
    assert (images.mean, images.std) == ((0.1, 0.2, 0.3), (2.0, 3.0, 4.0))
    normalize = images.transform.transforms[-2]
    assert normalize.mean.tolist() == pytest.approx([0.1, 0.2, 0.3]) and normalize.std.tolist() == [2, 3, 4]


def test_no_image_file_is_opened_after_preparation(small):
    prepare(small)
    for folder in ("oxford_pets", "imagenet"):
        shutil.rmtree(small / "noah" / folder)
    data = augmented(small)
    assert len(data.batch(torch.arange(len(data)), 1)) == 4 * CLASSES
    assert len(load_shots("oxford_pets_fs", "train800", small, 4, 0, 32).labels) == 4 * CLASSES


def test_stored_training_pictures_are_the_files(small):
    prepare(small)
    pictures = load_pictures("oxford_pets_fs", small, 2, 1, 32)
    lines = (small / "noah" / SHOT_ROWS["oxford_pets_fs"].lists / "train_meta.list.num_shot_2.seed_1").read_text()
    for i, line in enumerate(lines.splitlines()):
        name, label = line.rsplit(" ", 1)
        with Image.open(small / "noah" / "oxford_pets" / "images" / name) as file:
            assert torch.equal(TF.pil_to_tensor(pictures.image(i)), TF.pil_to_tensor(file.convert("RGB")))
        assert int(pictures.labels[i]) == int(label)


def run(script, root, *words):
    return forked(["tests/small_shots.py", script, *words, f"data_root={root}"])


def train_words(root, *more):
    return [*TINY, f"output_root={root / 'out'}", *more]


def test_few_shot_from_lists_to_the_table(small):
    pets = ["dataset=oxford_pets_fs", "dataset.shots=4"]
    missing = run("train.py", small, *train_words(small, *pets))
    assert missing.returncode == 2 and "python prepare.py dataset=oxford_pets_fs shots=4" in missing.stderr
    assert run("prepare.py", small, "dataset=oxford_pets_fs", "size=32", "shots=4").returncode == 0
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, small, *train_words(small, *pets))
        assert done.returncode == 0, done.stderr
    assert "GLoRA-2, 4-shot" in done.stdout and (small / "out" / "tables" / "few_shot.png").exists()
    (result,) = (small / "out").rglob("result.json")
    record = json.loads(result.read_text())
    assert (record["suite"], record["shots"], record["list_seed"], record["augmentation"]) == ("few_shot", 4, 0, "timm")
    assert record["training_images"] == 16 and record["resize"] == "bicubic 37, centre crop 32"
    assert "oxford_pets_fs-4shot-list0" in str(result) and len(record["lists_lists"]) == 64
    probe = run("train.py", small, *train_words(small, *pets, "method=linear"))
    assert probe.returncode == 0, probe.stderr


def test_a_killed_run_resumes_to_the_same_bits_with_augmentation(small):
    assert run("prepare.py", small, "dataset=oxford_pets_fs", "size=32", "shots=4", "list_seed=0").returncode == 0
    words = ["dataset=oxford_pets_fs", "dataset.shots=4", "trainer.epochs=30"]
    digests = []
    for root in ("whole", "broken"):
        more = [*TINY, *words, f"output_root={small / root}"]
        if root == "broken":
            kill_when(
                small / root,
                "resume_train800.pt",
                ["tests/small_shots.py", "train.py", *more, f"data_root={small}"],
            )
        done = run("train.py", small, *more)
        assert done.returncode == 0, done.stderr
        (weights,) = (small / root).rglob("weights.safetensors")
        digests.append(hashlib.sha256(weights.read_bytes()).hexdigest())
    assert "resuming after epoch" in done.stdout and digests[0] == digests[1]


def test_domain_generalisation_from_lists_to_the_table(small):
    assert run("prepare.py", small, "sweep=domain_generalization", "size=32").returncode == 0
    words = train_words(small, "dataset=imagenet_16shot")
    for script in ("train.py", "search.py", "evaluate.py"):
        done = run(script, small, *words)
        assert done.returncode == 0, done.stderr
    done = run("evaluate.py", small, *words, "dataset.class_subset=dataset")
    assert done.returncode == 0 and "A and R: their 200" in done.stdout and "Sketch" in done.stdout
    records = {r["class_subset"]: r for r in (json.loads(p.read_text()) for p in (small / "out").rglob("result.json"))}
    assert set(records) == {"none", "dataset"}
    targets = {"imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"}
    assert all(set(r["targets"]) == targets for r in records.values())
    none, subset = records["none"]["targets"], records["dataset"]["targets"]
    assert none["imagenet_v2"] == subset["imagenet_v2"] and subset["imagenet_a"] >= none["imagenet_a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=oxford_pets_fs", "dataset.shots=3"], "dataset.shots=3 cannot be used"),
        (["dataset=oxford_pets_fs", "dataset.list_seed=7"], "allowed: 0, 1, 2"),
        (["dataset=oxford_pets_fs", "dataset.class_subset=dataset"], "dataset.class_subset=dataset cannot be used"),
        (["dataset=oxford_pets_fs", "protocol=clean_1000"], "protocol=clean_1000 cannot be used"),
        (["dataset=oxford_pets_fs", "dataset.augmentation=mixup"], "allowed: timm, none"),
        (["dataset=digits", "dataset.shots=4"], "is for few-shot"),
    ],
)
def test_a_mistake_is_one_clear_message(tmp_path, words, said):
    done = forked(["train.py", *TINY, *words, f"output_root={tmp_path}", f"data_root={tmp_path}"])
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_prepare_says_which_lists_and_images_are_needed(tmp_path):
    command = ["prepare.py", "dataset=stanford_cars", f"data_root={tmp_path}"]
    done = forked(command)
    assert done.returncode == 1 and "missing list" in done.stderr and "Traceback" not in done.stderr
    for word in ("ZhangYuanhan-AI/NOAH", "few-shot/standford-cars/annotations", "cars_train.tgz"):
        assert word in done.stdout
    wrong = forked([*command, "shots=3"])
    assert wrong.returncode == 2 and "shots=3" in wrong.stderr


def test_train_path_names_shots_and_list():
    assert train_path("food101", Path("/d"), 4, 2).name == "train-k4-s2.safetensors"
