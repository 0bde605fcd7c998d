"""What is handed to timm's constructor, and what comes back when it refuses."""

import pytest

from glora.backbones import Backbone, WeightsError, build_backbone
from glora.construction import construct, kwargs_problems

SMALL = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 1, "num_heads": 2}


@pytest.mark.parametrize(
    "key",
    ["checkpoint_path", "cache_dir", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict",
     "pretrained_filter_fn", "num_classes", "in_chans", "features_only", "scriptable", "device", "drop_path_rate"],
)  # fmt: skip
def test_what_loads_or_is_decided_elsewhere_is_refused_by_name(key):
    (problem,) = kwargs_problems({**SMALL, key: 1})
    assert problem.startswith(f"backbone.kwargs.{key} is no part of an architecture")
    with pytest.raises(WeightsError, match=f"backbone.kwargs.{key} is no part"):
        build_backbone(Backbone("x", "vit_tiny_patch16_224", {**SMALL, key: 1}, pretrained=False), 3)


def test_a_pickle_named_as_checkpoint_is_never_opened(tmp_path):
    import pickle

    class Touch:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "x.pth"
    path.write_bytes(pickle.dumps(Touch()))
    for kwargs in ({"checkpoint_path": str(path)}, {"pretrained_cfg_overlay": {"file": str(path)}, "pretrained": True}):
        with pytest.raises(WeightsError, match=r"weights come from backbone\.weights="):
            build_backbone(Backbone("x", "vit_tiny_patch16_224", {**SMALL, **kwargs}, pretrained=False), 3)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"num_heads": 3}, "dim should be divisible by num_heads"),
        ({"patch_size": 0}, "ZeroDivisionError"),
        ({"global_pool": "x"}, "AssertionError"),
        ({"norm_layer": "os.system"}, "KeyError"),
        ({"depth": "x"}, "TypeError"),
        ({"embed_dim": -4}, "negative dimension"),
        ({"nope": 1}, "nope"),
    ],
)
def test_what_timm_refuses_is_one_line_with_the_arguments(kwargs, words):
    with pytest.raises(WeightsError) as caught:
        build_backbone(Backbone("x", "vit_tiny_patch16_224", SMALL | kwargs, pretrained=False), 3)
    text, (key, value) = str(caught.value), *kwargs.items()
    assert len(text.splitlines()) == 1 and words in text and f"{key}={value}" in text
    assert "change backbone.kwargs" in text


def test_more_than_the_memory_holds_is_refused_before_it_is_made():
    with pytest.raises(ValueError, match=r"take [\d,]+ GB, and this machine has"):
        construct("vit_tiny_patch16_224", SMALL | {"embed_dim": 16384, "depth": 16, "mlp_ratio": 1000})


def test_numbers_are_found_at_any_depth():
    assert list(kwargs_problems({"block_args": {"sizes": [1, 10**30]}}))
    assert not list(kwargs_problems({"depths": [2, 2, 18, 2], "mlp_ratio": 4.0, "class_token": True, "x": None}))
