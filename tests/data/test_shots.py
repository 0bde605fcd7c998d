"""Few-shot and domain-generalisation data: the traps of the lists, and the transforms."""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF

from data import Augmented, DataError, load_images, load_shots, load_split, shot_task
from data.augment import eval_image
from data.shot_table import LIST_SEEDS, SHOT_ROWS, SHOTS
from data.shots import build_shots, eval_path, list_info, shots_state, train_path
from tests.helpers.small_shots import CLASSES, COUNTS, write_list

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


def prepare(root, name="oxford_pets_fs", **overrides):
    return build_shots(SHOT_ROWS[name], root, size=32, **overrides)


def test_a_set_is_prepared_once_and_repaired_when_damaged(small_shots):
    row = SHOT_ROWS["oxford_pets_fs"]
    assert prepare(small_shots) and not prepare(small_shots)
    assert shots_state(row, small_shots, 32) == (17, 17)
    test = eval_path(row.id, small_shots, "test", 32)
    test.write_bytes(test.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"damaged.*python prepare.py dataset=oxford_pets_fs"):
        load_shots(row.id, "test", small_shots, 1, 0, 32)
    assert prepare(small_shots) and len(load_shots(row.id, "test", small_shots, 1, 0, 32).labels) == COUNTS["test"]


def test_evaluation_images_are_squashed_to_256_of_224_and_cropped():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (300, 500, 3), dtype=np.uint8))
    expected = image.resize((256, 256), Image.Resampling.BICUBIC).crop((16, 16, 240, 240))
    assert np.array_equal(eval_image(image, 224), np.asarray(expected).transpose(2, 0, 1))
    assert eval_image(image, 64).shape == (3, 64, 64)


def test_doubled_one_shot_lines_count_once_and_are_said(small_shots, caplog):
    prepare(small_shots, shots=[1], seeds=[0])
    native = load_images("oxford_pets_fs", small_shots, 1, 0, 32)
    assert len(native) == CLASSES and list_info("oxford_pets_fs", small_shots, 1, 0, 32).doubled_lines == CLASSES
    assert "4 repeats are dropped" in caplog.text


def test_selection_images_that_train_are_left_out_of_the_selection(small_shots, caplog):
    prepare(small_shots, "imagenet_16shot")
    assert len(load_shots("imagenet_16shot", "val200", small_shots, 16, 0, 32).labels) == COUNTS["val200"]
    assert len(load_shots("imagenet_16shot", "val200", small_shots, 16, 1, 32).labels) == COUNTS["val200"] - 1
    assert "1 of its images are in the selection list" in caplog.text


def test_imagenets_validation_images_are_found_flat_and_by_class(small_shots):
    prepare(small_shots, "imagenet_16shot")
    flat = load_shots("imagenet_16shot", "test", small_shots, 16, 0, 32)
    val_folder = small_shots / "noah" / "imagenet" / "val"
    for i, label in enumerate(flat.labels.tolist()):
        (val_folder / f"n{label}").mkdir(exist_ok=True)
        shutil.move(val_folder / f"ILSVRC_{i}.JPEG", val_folder / f"n{label}" / f"ILSVRC_{i}.JPEG")
    shutil.rmtree(small_shots / "few_shot")
    prepare(small_shots, "imagenet_16shot")
    assert load_shots("imagenet_16shot", "test", small_shots, 16, 0, 32).content_hash == flat.content_hash


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../../etc/passwd 0", "leaves"),
        ("n0/train 0_0_2_0.JPEG 9", "label 9 is not in 0 to 3"),
        ("n0/train 0_0_2_0.JPEG", "is not 'path label'"),
        ("n0/none.JPEG 0", "missing .*none.JPEG"),
        ("n1/train 1_0_2_0.JPEG 0", r":1 and .*:\d+ give one image two labels, 0 and 1: .*/train 1_0_2_0.JPEG"),
        ("n1/train 1_0_4_0.JPEG 1", "1 images of class 0, not 2"),
    ],
)
def test_a_bad_line_is_named(small_shots, line, message):
    path = small_shots / "noah" / SHOT_ROWS["oxford_pets_fs"].lists / "train_meta.list.num_shot_2.seed_0"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([line, *lines[1:]]) + "\n")
    with pytest.raises(DataError, match=message) as caught:
        prepare(small_shots)
    assert str(path.name) in str(caught.value)
    assert not list(small_shots.rglob("few_shot/**/*.safetensors"))


def test_wrong_counts_and_missing_lists_are_named(small_shots):
    row = SHOT_ROWS["oxford_pets_fs"]
    write_list(small_shots / "noah", row.evals["test"].path, "x", [("a.jpg", 0)] * 3, make=False)
    with pytest.raises(DataError, match="test_meta.list has 3 lines; test of oxford_pets_fs has 8"):
        prepare(small_shots)
    shutil.rmtree(small_shots / "noah" / row.lists)
    with pytest.raises(DataError, match="missing list"):
        prepare(small_shots)


def test_an_unprepared_set_says_what_to_type(small_shots):
    with pytest.raises(
        DataError, match="python prepare.py dataset=food101 dataset.shots=4 dataset.list_seed=2 backbone.image_size=32"
    ):
        load_shots("food101", "test", small_shots, 4, 2, 32)
    with pytest.raises(DataError, match="use load_shots"):
        load_split("food101", "test", data_root=small_shots)


def augmented(small_shots, seed=0):
    return Augmented(load_images("oxford_pets_fs", small_shots, 4, 0, 32), 32, MEAN, STD, seed)


def test_augmentation_is_a_function_of_seed_epoch_and_position(small_shots):
    prepare(small_shots)
    one, index = augmented(small_shots), torch.tensor([3, 0, 7])
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    first = one.batch(index, 2)
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # the generators were left alone
    assert first.shape == (3, 3, 32, 32) and first.dtype == torch.float32
    assert torch.equal(augmented(small_shots).batch(index.flip(0), 2).flip(0), first)
    for other in (one.batch(index, 3), augmented(small_shots, 1).batch(index, 2)):
        assert not torch.equal(other, first)
    # normalised: undone, nothing but erased pixels (noise) leaves the range of colours
    colours = first * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    assert ((colours > -0.01) & (colours < 1.01)).float().mean() > 0.5


def test_a_run_augments_with_the_mean_and_std_of_its_overrides(small_shots):
    from runner.stages.inputs import training_set
    from tests.helpers.composing import resolved

    prepare(small_shots)
    overrides = ["dataset=oxford_pets_fs", "dataset.shots=4", "backbone=vit_micro", "backbone.image_size=32",
                 "device=cpu", "backbone.normalization={mean:[0.1,0.2,0.3],std:[2,3,4]}"]  # fmt: skip
    images = training_set(resolved(*overrides, f"data_root={small_shots}"), "train800").images
    assert (images.mean, images.std) == ((0.1, 0.2, 0.3), (2.0, 3.0, 4.0))
    normalize = images.transform.transforms[-2]
    assert normalize.mean.tolist() == pytest.approx([0.1, 0.2, 0.3]) and normalize.std.tolist() == [2, 3, 4]


def test_no_image_file_is_opened_after_preparation(small_shots):
    prepare(small_shots)
    for folder in ("oxford_pets", "imagenet"):
        shutil.rmtree(small_shots / "noah" / folder)
    data = augmented(small_shots)
    assert len(data.batch(torch.arange(len(data)), 1)) == 4 * CLASSES
    assert len(load_shots("oxford_pets_fs", "train800", small_shots, 4, 0, 32).labels) == 4 * CLASSES


def test_stored_training_images_are_the_files(small_shots):
    prepare(small_shots)
    native = load_images("oxford_pets_fs", small_shots, 2, 1, 32)
    lines = (small_shots / "noah" / SHOT_ROWS["oxford_pets_fs"].lists / "train_meta.list.num_shot_2.seed_1").read_text()
    for i, line in enumerate(lines.splitlines()):
        name, label = line.rsplit(" ", 1)
        with Image.open(small_shots / "noah" / "oxford_pets" / "images" / name) as file:
            assert torch.equal(TF.pil_to_tensor(native.image(i)), TF.pil_to_tensor(file.convert("RGB")))
        assert int(native.labels[i]) == int(label)


def test_train_path_names_shots_and_list():
    assert train_path("food101", Path("/d"), 4, 2).name == "train-k4-s2.safetensors"
