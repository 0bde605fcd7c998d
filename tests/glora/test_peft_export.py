"""The exported adapter, read from disk by HF PEFT into an untouched timm model, gives the merged model's logits."""

import json
import random
import re

import peft
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from glora.methods import METHODS
from glora.options import LayerConfig
from glora.peft_export import export_peft
from glora.space import Subnet
from runner.stages.model import build as build_run
from tests.helpers.commands import forked
from tests.helpers.composing import resolved
from tests.helpers.small_models import SMALL, build


def trained(kind, name, **options):
    torch.manual_seed(1)
    model = build(kind).float()
    method = METHODS[name](model, **options)
    for p in method.trainable().values():
        nn.init.normal_(p, std=0.1)
    return method


def same_logits(method, kind, folder):
    size = SMALL[kind][1]["img_size"]
    x = torch.randn(2, 3, size, size)
    before, untouched = method.merge().eval()(x), build(kind).float()
    loaded = peft.PeftModel.from_pretrained(untouched, export_peft(method, folder)).eval()
    assert (before - build(kind).float()(x)).abs().max() > 1e-2
    torch.testing.assert_close(loaded(x), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["fused_qkv", "qv"])
@pytest.mark.parametrize("kind", SMALL)
def test_lora_loads_in_peft(kind, form, tmp_path):
    same_logits(trained(kind, "lora", form=form, scale=0.7), kind, tmp_path)


def test_both_heads_of_a_distilled_model_travel(tmp_path):
    def plain():
        torch.manual_seed(0)
        return timm.create_model("deit_tiny_distilled_patch16_224", num_classes=5, **SMALL["vit"][1]).eval()

    method = METHODS["lora"](plain())
    for p in method.trainable().values():
        nn.init.normal_(p, std=0.1)
    loaded = peft.PeftModel.from_pretrained(plain(), export_peft(method, tmp_path)).eval()
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(x), method.merge().eval()(x), rtol=1e-4, atol=1e-4)


def without_bias_terms(method, subnet):
    free = [layer.bias is None for layer in method.supernet.layers.values()]
    return Subnet(tuple(LayerConfig(c.A, c.B) if f else c for c, f in zip(subnet.layers, free, strict=True)))


@pytest.mark.parametrize("kind", SMALL)
def test_subnets_load_in_peft(kind, tmp_path):
    method = trained(kind, "glora")
    for seed in range(4):
        subnet = method.supernet.space.sample(random.Random(seed))
        method.supernet.set(without_bias_terms(method, subnet))
        same_logits(method, kind, tmp_path / str(seed))


def test_what_peft_cannot_hold_is_refused_and_nothing_written(tmp_path):
    method = trained("swin", "glora")
    for tensor in ("C", "E"):
        smallest = method.supernet.space.smallest
        config = LayerConfig.parse(["vector" if t == tensor else "none" for t in "ABCDE"])
        free = [layer.bias is None for layer in method.supernet.layers.values()]
        layers = [config if f else c for c, f in zip(smallest.layers, free, strict=True)]
        method.supernet.set(Subnet(tuple(layers)))
        with pytest.raises(ValueError, match=r"reduction has no bias .* export=merged"):
            export_peft(method, tmp_path / "out")
    with pytest.raises(ValueError, match="no format for method=ssf"):
        export_peft(trained("vit", "ssf"), tmp_path / "out")
    model = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), num_classes=5)
    with pytest.raises(ValueError, match=r"stem\.0 is a convolution.* export=merged"):
        export_peft(METHODS["glora"](model, convs=True), tmp_path / "out")
    assert not (tmp_path / "out").exists()


VIT = ["backbone.kwargs={img_size:64,patch_size:16,embed_dim:32,depth:2,num_heads:2}"]
SWIN = ["backbone=timm", "backbone.timm_name=swin_tiny_patch4_window7_224", "backbone.image_size=56",
        "+backbone.kwargs={img_size:56,embed_dim:16,depths:[1,1,1,1],num_heads:[1,2,2,2]}"]  # fmt: skip


def overrides_of(folder, *more):
    return ["dataset=digits", "trainer=mini", "trainer.epochs=3", "trainer.warmup_epochs=0", "optimizer.lr=0.01",
            "backbone.pretrained=false", "logger.wandb=disabled", f"output_root={folder / 'out'}",
            f"data_root={folder / 'data'}", "search.generations=1", "search.population=4", *more]  # fmt: skip


def ran(script, overrides):
    done = forked([script, *overrides])
    assert done.returncode == 0, done.stderr
    return done


GATES = ("search.winner=soup", "search.soup_size=2", "search.finetune_epochs=2", "search.learn_gates=true")


@pytest.mark.parametrize(
    ("name", "more"), [("lora", ()), ("glora", ()), ("glora", GATES)], ids=["lora", "glora", "learned gates"]
)
def test_the_command_writes_what_peft_reads(name, more, tmp_path):
    overrides = overrides_of(tmp_path, *VIT, f"method={name}", *more)
    for script in ("train.py", *(["search.py"] if name == "glora" else [])):
        ran(script, overrides)
    for kind in ("merged", "peft"):
        ran("export.py", [*overrides, f"export={kind}"])
    (merged,), (adapter,) = tmp_path.rglob("export"), tmp_path.rglob("export_peft")

    untouched = build_run(resolved(*overrides, "method=linear")).model.eval()
    config = json.loads((merged / "config.json").read_text())
    plain = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["kwargs"])
    plain.load_state_dict(load_file(merged / "model.safetensors"))
    x = torch.randn(4, 3, 64, 64)
    expected = plain.eval()(x)
    assert (untouched(x) - expected).abs().max() > 1e-2
    loaded = peft.PeftModel.from_pretrained(untouched, adapter).eval()
    torch.testing.assert_close(loaded(x), expected, rtol=1e-4, atol=1e-4)


def test_the_command_says_what_peft_cannot_hold_and_what_to_type_instead(tmp_path):
    overrides = overrides_of(tmp_path, *VIT, "method=adapter")
    ran("train.py", overrides)
    for kind, message in (("peft", "and it has no merged form either"), ("merged", "adapter")):
        done = forked(["export.py", *overrides, f"export={kind}"])
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_searched_swin_that_gains_biases_is_refused_by_peft_and_exported_merged(tmp_path):
    overrides = overrides_of(tmp_path, *SWIN, "search.fitness=accuracy", "search.extremes=false")  # whose winner does
    ran("train.py", overrides)
    ran("search.py", overrides)
    (best,) = tmp_path.rglob("subnet_evolution.json")
    reductions = {n: o for n, o in json.loads(best.read_text()).items() if n.endswith("reduction")}
    assert len(reductions) == 3 and any((c, e) != ("none", "none") for _, _, c, _, e in reductions.values())
    done = forked(["export.py", *overrides, "export=peft"])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"error: \S+reduction has no bias and gains one through C or E.*export=merged", done.stderr)
    assert not list(tmp_path.rglob("export_peft"))
    ran("export.py", [*overrides, "export=merged"])
    assert list(tmp_path.rglob("export/model.safetensors"))
