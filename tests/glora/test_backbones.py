"""Weights: the embedded file, other layouts and resolutions, files that do not fit, the hub, and the fresh head."""

import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save, save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

from glora.backbones import Backbone, WeightsError, build_backbone, file_sha256, takes_drop_path
from glora.export import export_model
from glora.methods import METHODS
from tests.helpers import ROOT
from tests.helpers.commands import forked

ASSETS = ROOT / "runner" / "assets"
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


SWIN = {"img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2)}
DEIT3 = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


def random_state(name, kwargs):
    torch.manual_seed(5)
    model = timm.create_model(name, num_classes=7, **kwargs)
    return {k: torch.randn_like(v) if v.is_floating_point() else v for k, v in model.state_dict().items()}


def without_head(state):
    return {k: v for k, v in state.items() if not k.startswith("head")}


def renamed(state, *pairs):
    """As an older release named its tensors."""
    out = {}
    for name, tensor in state.items():
        for now, then in pairs:
            name = re.sub(now, then, name)
        out[name] = tensor
    return out


def older_swin(state):
    return renamed(state, (r"layers\.1\.downsample", "layers.0.downsample"), (r"head\.fc\.", "head."))


def older_deit3(state):
    return renamed(state, (r"ls(\d)\.gamma", r"gamma_\1"))


@pytest.mark.parametrize("head", ["of another size", "none"])
@pytest.mark.parametrize(
    ("name", "kwargs", "older"),
    [("swin_tiny_patch4_window7_224", SWIN, older_swin), ("deit3_small_patch16_224", DEIT3, older_deit3)],
)
def test_an_older_layout_is_converted_whatever_its_classifier(tmp_path, name, kwargs, older, head):
    state = random_state(name, kwargs)
    save_file(older(state if head != "none" else without_head(state)), tmp_path / "w.safetensors")
    assert older(state).keys() != state.keys()
    model = build_backbone(Backbone("x", name, kwargs, True, tmp_path / "w.safetensors", 0.0), 3)
    body = without_head(model.state_dict())
    assert len(body) > 20 and all(torch.equal(tensor, state[name]) for name, tensor in body.items())
    assert model.num_classes == 3 and "state_dict" not in (model.pretrained_cfg or {})


@pytest.mark.parametrize("head", ["of another size", "none"])
def test_position_embeddings_are_resampled_whatever_the_classifier(tmp_path, head):
    state = random_state("vit_tiny_patch16_224", SMALL)
    save_file(state if head != "none" else without_head(state), tmp_path / "w.safetensors")
    model = build_backbone(small(tmp_path / "w.safetensors", img_size=48), 3)
    body = without_head(model.state_dict())
    expected = resample_abs_pos_embed(state["pos_embed"], [6, 6], num_prefix_tokens=1)
    torch.testing.assert_close(body.pop("pos_embed"), expected)
    assert len(body) > 20 and all(torch.equal(tensor, state[name]) for name, tensor in body.items())
    state = random_state("swin_tiny_patch4_window7_224", SWIN)
    save_file(state if head != "none" else without_head(state), tmp_path / "s.safetensors")
    larger = SWIN | {"img_size": 64, "window_size": 8}
    backbone = Backbone("x", "swin_tiny_patch4_window7_224", larger, True, tmp_path / "s.safetensors", 0.0)
    model = build_backbone(backbone, 3)
    assert model.layers[0].blocks[0].attn.relative_position_bias_table.shape == (15 * 15, 2)
    assert torch.equal(model.layers[1].blocks[0].mlp.fc1.weight, state["layers.1.blocks.0.mlp.fc1.weight"])


def test_the_cause_of_a_refusal_is_printed_with_the_shapes_in_one_line(tmp_path):
    save_file(without_head(random_state("vit_tiny_patch16_224", SMALL)), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError) as caught:
        build_backbone(small(tmp_path / "w.safetensors", embed_dim=64), 4)
    message = str(caught.value)
    assert "blocks.0.attn.proj.bias has shape (32,), not (64,)" in message and "backbone.kwargs" in message
    assert "size mismatch for" in message and len(message.splitlines()) == 1


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_an_export_is_read_at_another_resolution(tmp_path, kind):
    name, kwargs, changes = {
        "vit": ("vit_tiny_patch16_224", SMALL, {"img_size": 48}),
        "swin": ("swin_tiny_patch4_window7_224", SWIN, {"img_size": 64, "window_size": 8}),
    }[kind]
    method = METHODS["glora"](build_backbone(Backbone("x", name, kwargs, False, None, 0.0), 5))
    for p in method.trainable().values():
        nn.init.normal_(p, std=0.1)
    method.set(method.space.largest)
    merged = method.merge()
    path = export_model(merged, tmp_path, name, kwargs, 5, {}) / "model.safetensors"
    block = "blocks.1" if kind == "vit" else "layers.1.blocks.0"
    for more in ({}, changes):
        model = build_backbone(Backbone("x", name, kwargs | more, True, path, 0.0), 3)
        assert torch.equal(model.get_submodule(block).mlp.fc1.weight, merged.get_submodule(block).mlp.fc1.weight)
        size = (kwargs | more)["img_size"]
        assert model.eval()(torch.zeros(1, 3, size, size)).shape == (1, 3)


def test_the_embedded_backbone_runs_at_another_resolution_or_says_what_does_not_fit(tmp_path):
    command = ["train.py", "dataset=digits", "trainer=mini", "trainer.max_steps=1", "trainer.batch_size=8",
               "method=bitfit", "logger.wandb=disabled", f"output_root={tmp_path}",
               f"data_root={tmp_path}"]  # fmt: skip
    done = forked([*command, "backbone.kwargs.img_size=96", "backbone.image_size=96"])
    assert done.returncode == 0 and list(tmp_path.rglob("weights.safetensors")), done.stderr
    refused = forked([*command, "backbone.kwargs.embed_dim=64"])
    assert refused.returncode == 2 and "has shape (128,), not (64,)" in refused.stderr
    assert "Traceback" not in refused.stderr


class Proxy(BaseHTTPRequestHandler):
    """An HTTP proxy that knows one file of one host, which has no address of its own, and fails at first."""

    content, asked = b"", []

    def do_HEAD(self):
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(200 if len(self.asked) > 1 else 503)
        for key, value in (("X-Repo-Commit", "0" * 40), ("ETag", '"1"'), ("Content-Length", str(len(self.content)))):
            self.send_header(key, value)
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(self.content)

    def log_message(self, *args):
        """Not on the terminal."""


def test_weights_are_fetched_through_a_proxy_and_a_hub_that_fails_is_asked_once(tmp_path, monkeypatch):
    state = timm.create_model("test_vit").state_dict()
    state["blocks.0.norm1.weight"][:2] = torch.tensor([3.0, 4.0])
    monkeypatch.setattr(Proxy, "content", save(state))
    script = (
        "from glora.backbones import *\n"
        "try: build_backbone(Backbone('x', 'test_vit.r160_in1k'), 3)\n"
        "except WeightsError as error: print(error)\n"
        "print(build_backbone(Backbone('x', 'test_vit.r160_in1k'), 3).blocks[0].norm1.weight[:2].tolist())"
    )
    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower() and not k.startswith("HF_")}
    env |= {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://hub.invalid", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env["HTTP_PROXY"] = f"http://127.0.0.1:{server.server_port}"
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, env=env)
        server.shutdown()
    failed, fetched = done.stdout.splitlines()
    assert "backbone.weights=/path/to/model.safetensors" in failed and "the cause: HfHubHTTPError: " in failed
    assert fetched == "[3.0, 4.0]"
    url = "http://hub.invalid/timm/test_vit.r160_in1k/resolve/main/model.safetensors"
    assert Proxy.asked == [f"{verb} {url}" for verb in ("HEAD", "HEAD", "HEAD", "GET")]  # a failing download is retried


def test_stochastic_depth_is_passed_where_it_is_known():
    assert takes_drop_path("vit_tiny_patch16_224") and takes_drop_path("swin_tiny_patch4_window7_224")
    assert not takes_drop_path("repvit_m1") and not takes_drop_path("ghostnet_050") and not takes_drop_path("vgg11")
    assert build_backbone(Backbone("x", "ghostnet_050", {}, False, None, 0.0), 3).num_classes == 3
    with pytest.raises(WeightsError, match=r"backbone.drop_path_rate=0.2: ghostnet_050 has no stochastic depth; leave"):
        build_backbone(Backbone("x", "ghostnet_050", {}, False, None, 0.2), 3)


def test_an_unknown_tag_is_named_with_the_known_ones():
    with pytest.raises(WeightsError, match="knows no weights 'orig' of vit_tiny_patch16_224; it knows augreg_in21k,"):
        build_backbone(Backbone("x", "vit_tiny_patch16_224.orig", {}, False), 3)


def test_a_probe_of_two_heads_trains_on_images_and_the_others_on_features():
    x = torch.randn(2, 3, 32, 32)
    two = build_backbone(Backbone("x", "deit_tiny_distilled_patch16_224", SMALL, False, None, 0.0), 4)
    assert isinstance(METHODS["linear"](two).head, nn.ModuleList) and not METHODS["linear"](two).reads_features(x)
    assert {n for n in METHODS["linear"](two).trainable()} == {
        "head.weight", "head.bias", "head_dist.weight", "head_dist.bias"
    }  # fmt: skip
    assert METHODS["linear"](build_backbone(small(), 4)).reads_features(x)
    pools = build_backbone(Backbone("x", "dla46x_c", {}, False, None, 0.0), 4)  # its classifier is a convolution
    assert not METHODS["linear"](pools).reads_features(x)
