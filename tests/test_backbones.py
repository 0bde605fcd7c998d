"""Weights: the embedded file, the original .npz layout, files that do not fit, and the fresh head."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from glora.backbones import Backbone, WeightsError, build_backbone, file_sha256

ASSETS = Path(__file__).resolve().parent.parent / "runner" / "assets"
MICRO = json.loads((ASSETS / "vit_micro.json").read_text())
SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def small(weights=None, **changes):
    return Backbone("small", "vit_tiny_patch16_224", SMALL | changes, weights is not None, weights, 0.0)


def test_embedded_weights_are_those_of_the_model_card():
    path = ASSETS / "vit_micro.safetensors"
    assert file_sha256(path) == MICRO["sha256"] and MICRO["sha256"] in (ASSETS / "vit_micro.md").read_text()
    assert path.stat().st_size < 12e6 and MICRO["history"][-1]["val_top1"] >= 0.25
    backbone = Backbone("vit_micro", "vit_tiny_patch16_224", MICRO["architecture"], True, path, 0.1)
    model = build_backbone(backbone, 10)
    assert torch.equal(model.blocks[0].attn.qkv.weight, build_backbone(backbone, 7, seed=3).blocks[0].attn.qkv.weight)
    assert model.head.out_features == 10 and model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.1)


def test_the_head_is_a_default_linear_and_follows_the_seed():
    one, two, same = build_backbone(small(), 10, 0), build_backbone(small(), 10, 1), build_backbone(small(), 10, 0)
    assert torch.equal(one.head.weight, same.head.weight) and not torch.equal(one.head.weight, two.head.weight)
    bound = 1 / 32**0.5
    assert 0.9 * bound < one.head.weight.abs().max() <= bound and one.head.bias.any()


def google_npz(model, path):
    """Write a timm ViT's weights in the layout of the original ViT-B_16.npz."""
    s = {k: v.numpy() for k, v in model.state_dict().items()}
    heads, width = SMALL["num_heads"], SMALL["embed_dim"]
    out = {
        "embedding/kernel": s["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": s["patch_embed.proj.bias"],
        "cls": s["cls_token"],
        "Transformer/posembed_input/pos_embedding": s["pos_embed"],
        "Transformer/encoder_norm/scale": s["norm.weight"],
        "Transformer/encoder_norm/bias": s["norm.bias"],
        "head/kernel": s["head.weight"].T,
        "head/bias": s["head.bias"],
    }
    for b in range(SMALL["depth"]):
        here, there = f"blocks.{b}.", f"Transformer/encoderblock_{b}/"
        for norm, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            out[f"{there}{name}/scale"], out[f"{there}{name}/bias"] = s[f"{here}{norm}.weight"], s[f"{here}{norm}.bias"]
        attention = there + "MultiHeadDotProductAttention_1/"
        for i, name in enumerate(("query", "key", "value")):
            rows = slice(i * width, (i + 1) * width)
            out[f"{attention}{name}/kernel"] = s[here + "attn.qkv.weight"][rows].T.reshape(width, heads, -1)
            out[f"{attention}{name}/bias"] = s[here + "attn.qkv.bias"][rows].reshape(heads, -1)
        out[attention + "out/kernel"] = s[here + "attn.proj.weight"].T.reshape(heads, -1, width)
        out[attention + "out/bias"] = s[here + "attn.proj.bias"]
        for i, name in enumerate(("fc1", "fc2")):
            out[f"{there}MlpBlock_3/Dense_{i}/kernel"] = s[f"{here}mlp.{name}.weight"].T
            out[f"{there}MlpBlock_3/Dense_{i}/bias"] = s[f"{here}mlp.{name}.bias"]
    np.savez(path, **out)


def test_the_original_npz_layout_is_read_from_a_path(tmp_path):
    torch.manual_seed(5)
    source = timm.create_model("vit_tiny_patch16_224", **SMALL).eval()
    for p in source.parameters():
        torch.nn.init.normal_(p, std=0.2)
    google_npz(source, tmp_path / "ViT.npz")
    model = build_backbone(small(tmp_path / "ViT.npz"), 4).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.forward_features(x), source.forward_features(x), rtol=1e-4, atol=1e-4)
    for depth in (SMALL["depth"] - 1, SMALL["depth"] + 1):
        other = small(tmp_path / "ViT.npz", depth=depth)
        with pytest.raises(WeightsError, match=f"holds {SMALL['depth']} blocks, the model has {depth}"):
            build_backbone(other, 4)


def test_files_that_do_not_fit_are_refused_by_name(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"pickle")
    with pytest.raises(WeightsError, match="never from a pickle"):
        build_backbone(small(tmp_path / "w.pth"), 4)
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00")
    with pytest.raises(WeightsError, match=r"torn\.safetensors cannot be read"):
        build_backbone(small(tmp_path / "torn.safetensors"), 4)
    save_file(timm.create_model("vit_tiny_patch16_224", **SMALL).state_dict(), tmp_path / "w.safetensors")
    build_backbone(small(tmp_path / "w.safetensors"), 4)
    with pytest.raises(WeightsError, match="does not fit"):
        build_backbone(small(tmp_path / "w.safetensors", embed_dim=64), 4)
    with pytest.raises(WeightsError, match="does not fit.*unknown"):
        build_backbone(small(tmp_path / "w.safetensors", depth=1), 4)  # not the first block of a deeper model
    with pytest.raises(WeightsError, match=r"did you mean.*vit_tiny_patch16_224"):
        build_backbone(Backbone("x", "vit_tiny_patch16_22", {}, False), 4)
