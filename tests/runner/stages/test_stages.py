"""What the stages do inside, where the command line shows too little of it."""

import json

import pytest
import torch

from glora import MergedEvaluator
from glora.evaluation import accuracy
from glora.methods import glora as glora_method
from glora.methods.linear_probe import Linear
from runner.stages import search as searching
from runner.stages import train as training
from runner.stages.inputs import Preprocess, balanced_cut, selection_split, split
from runner.stages.model import load_trained
from runner.stages.search import find
from runner.stages.train import train
from tests.helpers.composing import resolved


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    return ["dataset=digits", f"data_root={tmp_path_factory.mktemp('data')}"]


def test_selection_splits_are_cut_seeded_and_class_balanced(overrides):
    whole = resolved(*overrides)
    assert torch.equal(selection_split(whole).labels, split(whole, "val200").labels)
    cut = resolved(*overrides, "search.val_limit=50")
    one, two = (balanced_cut(selection_split(cut), cut.search.selection_images) for _ in range(2))
    assert len(one.labels) == 50 and torch.equal(one.images, two.images)
    assert one.labels.bincount(minlength=10).tolist() == [5] * 10


def test_all_candidates_of_a_search_share_one_model_and_images_prepared_once(overrides, tmp_path, monkeypatch):
    small = ["trainer=mini", "trainer.max_steps=1", "backbone.pretrained=false", "backbone.kwargs.depth=1"]
    c = resolved(*overrides, *small, "search.generations=2", "search.population=5", f"output_root={tmp_path}")
    train(c)
    prepared, models = [], []

    class Counting(Preprocess):
        def __call__(self, images):
            prepared.append(len(images))
            return super().__call__(images)

    def counting(*args):
        models.append(MergedEvaluator(*args))
        return models[-1]

    monkeypatch.setattr(searching, "Preprocess", Counting)
    monkeypatch.setattr(glora_method, "MergedEvaluator", counting)
    done = json.loads((find(c) / "evolution.json").read_text())
    assert len(done["candidates"]) == 10 and prepared == [200] and len(models) == 1


def test_the_test_split_has_one_door(overrides):
    with pytest.raises(ValueError, match="test_split alone"):
        split(resolved(*overrides), "test")


def test_preprocessing_resizes_and_normalises(overrides):
    config = resolved(*overrides, "backbone=vit_b16_in21k")
    grey = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)
    out = Preprocess(config)(grey)
    assert out.shape == (2, 3, 224, 224)
    expected = (128 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(out.amax((0, 2, 3)), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(out.amin((0, 2, 3)), expected, rtol=1e-5, atol=1e-5)


def test_an_identity_names_everything_that_decides_a_run():
    config = resolved("dataset=digits")
    known = config.identity
    assert {"dataset", "backbone", "method", "trainer", "optimizer", "protocol", "ranks", "seed", "source"} <= set(
        known
    )
    assert not {"device", "logger", "search", "output_root", "data_root"} & set(known)
    assert config.backbone.weights.name == "vit_micro.safetensors"


@pytest.mark.slow
def test_a_probes_features_are_computed_once_for_all_points_of_a_grid_and_all_phases(overrides, tmp_path, monkeypatch):
    small = ["trainer=mini", "trainer.epochs=2", "backbone.pretrained=false", "backbone.kwargs.depth=1"]
    grid = ["method=linear", "hparams=val_grid", "protocol=clean_1000", f"output_root={tmp_path}"]
    c, seen, real = resolved(*overrides, *small, *grid), [], Linear.features

    def counting(self, images, prepare, batch=256):
        seen.append(len(images))
        return real(self, images, prepare, batch)

    monkeypatch.setattr(training, "_features", {})
    monkeypatch.setattr(Linear, "features", counting)
    folder = train(c)
    points = json.loads((folder / "grid.json").read_text())["points"]
    assert len(points) == 3 and seen == [800, 200, 1000]
    val, best = split(c, "val200"), max(points, key=lambda p: (p["val_accuracy"], -p["point"]["lr"]))
    model = load_trained(c, folder).model
    assert accuracy(model, val.images, val.labels, Preprocess(c)) == best["val_accuracy"]
    train(resolved(*overrides, *small, *grid, "seed=1"))  # random weights differ with the seed, and so do features
    assert seen == [800, 200, 1000] * 2
