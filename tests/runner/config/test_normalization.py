"""`backbone.normalization`: a name or a mean and std, from the override to the images and the run directory."""

import pytest
import torch

from runner.config.errors import ConfigError
from runner.stages.inputs import Preprocess
from tests.helpers.composing import resolved

CLIP = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}


def normalization(*overrides):
    return resolved("dataset=digits", *overrides).data.normalization


def test_a_timm_backbone_is_normalised_as_timm_says_and_the_pinned_ones_are_not():
    def own(name, *overrides):
        return normalization("backbone=timm", f"backbone.timm_name={name}", *overrides)

    assert own("vit_base_patch16_clip_224.openai") == CLIP
    assert own("vit_base_patch16_siglip_224") == "inception" and own("resnet18") == "imagenet"
    assert own("vit_base_patch16_clip_224.openai", "backbone.normalization=imagenet") == "imagenet"
    for name in ("vit_b16_in21k", "vit_b16_augreg_in21k", "swin_b_in22k", "vit_micro"):
        assert normalization(f"backbone={name}") == "imagenet"
    assert normalization("backbone=vit_b16_augreg_in21k", "backbone.normalization=timm") == "inception"


def test_a_mean_and_std_is_used_by_the_run_recorded_in_its_folder_and_named_where_it_has_a_name():
    overrides = ["dataset=digits", "backbone.normalization={mean:[0.5,0.4,0],std:[1,0.25,0.2]}"]
    c = resolved(*overrides)
    kept = {"mean": [0.5, 0.4, 0.0], "std": [1.0, 0.25, 0.2]}
    assert c.data.normalization == c.identity["backbone"]["normalization"] == kept
    grey = torch.full((1, 3, 64, 64), 51, dtype=torch.uint8)
    torch.testing.assert_close(Preprocess(c)(grey)[0, :, 0, 0].cpu(), torch.tensor([-0.3, -0.8, 1.0]))
    assert c.directory != resolved("dataset=digits").directory
    named = "backbone.normalization={mean:[0.485,0.456,0.406],std:[0.229,0.224,0.225]}"
    assert resolved("dataset=digits", named).directory == resolved("dataset=digits").directory


@pytest.mark.parametrize("value", ["clip", "{mean:[0.5,0.5,0.5]}", "{mean:[0,0,0],std:[1,1,0]}", "{mean:[0],std:[1]}",
                                   "{mean:[a,b,c],std:[1,1,1]}", "[0.5,0.5]", "null"])  # fmt: skip
def test_a_wrong_normalization_says_what_is_allowed(value):
    with pytest.raises(ConfigError, match="^backbone.normalization=.* is not one of imagenet, inception, none, tim"):
        normalization(f"backbone.normalization={value}")


FOLDERS = {
    "": "vit_micro-glora-r8-4-clean-paper-seed0-ad5c8420",
    "backbone=vit_b16_in21k": "vit_b16_in21k-glora-r8-4-clean-paper-seed0-8df6cc2b",
    "backbone=swin_b_in22k method=linear": "swin_b_in22k-linear-clean-paper-seed0-fe660b2f",
    "backbone=timm backbone.timm_name=resnet18 method=bitfit": "timm-bitfit-clean-paper-seed0-908c239c",
    "backbone.normalization=inception": "vit_micro-glora-r8-4-clean-paper-seed0-d669b49f",
}


def test_run_folders_of_before_a_normalization_could_be_numbers_keep_their_names():
    for overrides, name in FOLDERS.items():
        assert resolved("dataset=digits", *overrides.split()).directory.name == name
