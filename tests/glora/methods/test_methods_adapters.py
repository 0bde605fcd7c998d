"""Adapters and prompts: each formula written out a second time in float64, their counts, positions and refusals."""

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import ResPostBlock
from torch import nn

from glora.methods import METHODS, NotDefined, NotMergeable
from tests.helpers.small_models import same

NAMES = ("vpt_shallow", "vpt_deep", "adapter", "adaptformer", "adapter_plus")
VIT = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
# two stages, shifted windows with a mask, and a map that does not fill its windows
SWIN = {"img_size": 40, "patch_size": 4, "window_size": 4, "embed_dim": 16, "depths": (2, 2), "num_heads": (2, 4)}


def vit(**kwargs):
    torch.manual_seed(0)
    return timm.create_model("vit_base_patch16_224", **(VIT | kwargs)).double().eval()


def swin():
    torch.manual_seed(0)
    model = SwinTransformer(**SWIN, num_classes=5).double().eval()
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "relative_position_bias_table" in n or n.endswith("bias"):
                p.normal_(std=0.3)
    return model


def filled(model, name, **options):
    torch.manual_seed(1)
    method = METHODS[name](model, **options)
    with torch.no_grad():
        for p in method.trainable().values():
            p.add_(torch.randn_like(p), alpha=0.3)
    method.model.eval()
    return method


def images(size=32):
    return torch.randn(3, 3, size, size, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def lin(x, layer):
    return x @ layer.weight.T + (0 if layer.bias is None else layer.bias)


def after_attention(block, x):
    """The residual stream of timm's block before its MLP, and the MLP branch."""
    x = x + block.ls1(block.attn(block.norm1(x)))
    return x, lambda norm, mlp: mlp(norm(x))


def head(model, tokens):
    return model.forward_head(model.norm(tokens))


@pytest.mark.parametrize("name", NAMES)
def test_only_what_was_added_trains_and_merging_is_refused_with_the_reason(name):
    method = filled(vit(), name)
    with pytest.raises(NotMergeable, match=f"method={name} cannot be merged"):
        method.merge()
    with pytest.raises(NotDefined, match="ResPostBlock"):
        METHODS[name](vit(block_fn=ResPostBlock))
    with pytest.raises(NotDefined, match="another method"):
        METHODS[name](filled(vit(), "adapter_plus").model)


COUNTS = [("vpt_shallow", {"prompts": 7}, 768 * 7), ("vpt_deep", {"prompts": 7}, 9_216 * 7), ("adapter", {}, 156_768)]
COUNTS += [("adaptformer", {}, 156_768), ("adaptformer", {"variant": "petl_vit"}, 147_456)]
COUNTS += [("adaptformer", {"variant": "own_norm"}, 175_200), ("adapter_plus", {}, 165_984)]


@pytest.mark.parametrize(("name", "options", "count"), COUNTS)
def test_counts_on_vit_b(name, options, count):
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=10)
    assert METHODS[name](model, **options).params() == count


def test_adapter_is_its_formula_behind_drop_path():
    plain, method = vit(), filled(vit(), "adapter")
    x = plain._pos_embed(plain.patch_embed(images()))
    for block, part in zip(plain.blocks, method.parts, strict=True):
        x, branch = after_attention(block, x)
        z = branch(block.norm2, block.mlp)
        t = lin(z, part.down)
        x = x + z + lin(t / (1 + torch.exp(-1.702 * t)), part.up)
    plain.head = method.head
    same(method.model(images()), head(plain, x))
    block = filled(vit(drop_path_rate=0.5), "adapter").model.blocks[1].train()
    block.mlp, block.drop_path2.base = nn.Identity(), nn.Module()
    block.drop_path2.base.forward = torch.zeros_like  # everything dropped: what is left is the adapter of zero
    block.drop_path1, tokens = nn.Identity(), torch.randn(2, 4, 32, dtype=torch.double)
    block.drop_path2.adapter.eval()
    kept = tokens + block.attn(block.norm1(tokens))
    same(block(tokens), kept + block.drop_path2.adapter(torch.zeros_like(tokens)))


@pytest.mark.parametrize("variant", ["default", "own_norm", "petl_vit", "paper"])
def test_adaptformer_is_its_formula(variant):
    plain, method = vit(init_values=0.5), filled(vit(init_values=0.5), "adaptformer", variant=variant, scale=0.7)
    x = plain._pos_embed(plain.patch_embed(images()))
    for block, part in zip(plain.blocks, method.parts, strict=True):
        x, branch = after_attention(block, x)
        u = {"paper": block.norm2}.get(variant, nn.Identity())(x)
        if variant == "own_norm":
            u = F.layer_norm(x, (32,), part["norm"].weight, part["norm"].bias, 1e-5)
        assert (part["down"].bias is None) == (variant == "petl_vit")
        x = x + block.ls2(branch(block.norm2, block.mlp)) + 0.7 * lin(lin(u, part["down"]).clamp(min=0), part["up"])
    plain.head = method.head
    same(method.model(images()), head(plain, x))


def test_adapter_plus_is_its_formula_and_decays_matrices_alone():
    plain, method = vit(), filled(vit(), "adapter_plus")
    x = plain._pos_embed(plain.patch_embed(images()))
    for block, part in zip(plain.blocks, method.parts, strict=True):
        x = block(x)
        t = lin(x, part["down"])
        x = x + part.scale * lin(t * 0.5 * (1 + torch.erf(t / math.sqrt(2))), part["up"])
    plain.head = method.head
    same(method.model(images()), head(plain, x))
    assert method.no_decay() == {n for n, p in method.trainable().items() if p.ndim == 1} and method.no_decay()


POOLS = [{}, {"class_token": False, "global_pool": "avg"}, {"reg_tokens": 2}, {"global_pool": "avg"}]


@pytest.mark.parametrize("kwargs", POOLS)
@pytest.mark.parametrize("deep", [False, True])
def test_vpt_on_a_vit_is_its_formula_and_prompts_do_not_reach_the_pool(deep, kwargs):
    name = "vpt_deep" if deep else "vpt_shallow"
    plain, method = vit(**kwargs), filled(vit(**kwargs), name, prompts=3)
    k = plain.num_prefix_tokens
    x = plain._pos_embed(plain.patch_embed(images()))
    before, patches = x[:, :k], x[:, k:]
    p = method.parts[0].tokens.expand(3, -1, -1)
    for i, block in enumerate(plain.blocks):
        p = method.parts[i].tokens.expand(3, -1, -1) if deep else p
        before, p, patches = block(torch.cat([before, p, patches], 1)).split([k, 3, patches.shape[1]], 1)
    plain.head = method.head
    x = torch.cat([before, patches], 1)
    same(method.model(images()), plain.forward_head(plain.norm(x)))
    assert method.model.forward_features(images()).shape == x.shape
    method.model.reset_classifier(9)
    assert method.model(images()).shape == (3, 9) and method.model.get_classifier().out_features == 9


def slow_window_block(block, prompts, image):
    """One Swin block on one image: every window by itself, every pair of tokens' bias looked up."""
    (h, w, c), p, (wh, ww), (sh, sw) = image.shape, len(prompts), block.window_size, block.shift_size
    attn, hp, wp = block.attn, -(-h // wh) * wh, -(-w // ww) * ww
    padded = torch.zeros(hp, wp, c, dtype=image.dtype)
    padded[:h, :w] = torch.roll(block.norm1(image), (-sh, -sw), (0, 1))
    region = torch.zeros(hp, wp, dtype=torch.long)
    if sh or sw:
        rows = torch.arange(hp).ge(hp - wh).long() + torch.arange(hp).ge(hp - sh)
        cols = torch.arange(wp).ge(wp - ww).long() + torch.arange(wp).ge(wp - sw)
        region = rows[:, None] * 3 + cols
    out, sums, n = torch.zeros_like(padded), torch.zeros_like(prompts), 0
    for top in range(0, hp, wh):
        for left in range(0, wp, ww):
            cells = [(top + i, left + j) for i in range(wh) for j in range(ww)]
            tokens = torch.cat([block.norm1(prompts), torch.stack([padded[y, x] for y, x in cells])])
            q, k, v = lin(tokens, attn.qkv).view(len(tokens), 3, attn.num_heads, -1).permute(1, 2, 0, 3)
            score = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5
            for a, (y, x) in enumerate(cells):
                for b, (v_, u_) in enumerate(cells):
                    index = (y - v_ + wh - 1) * (2 * ww - 1) + x - u_ + ww - 1
                    masked = -100.0 if region[y, x] != region[v_, u_] else 0.0
                    score[:, p + a, p + b] += attn.relative_position_bias_table[index] + masked
            mixed = lin((score.softmax(-1) @ v).transpose(0, 1).flatten(1), attn.proj)
            sums, n = sums + mixed[:p], n + 1
            for (y, x), token in zip(cells, mixed[p:], strict=True):
                out[y, x] = token
    prompts, image = prompts + sums / n, image + torch.roll(out[:h, :w], (sh, sw), (0, 1))
    return prompts + block.mlp(block.norm2(prompts)), image + block.mlp(block.norm2(image))


@torch.no_grad()
@pytest.mark.parametrize("name", ["vpt_shallow", "vpt_deep"])
def test_vpt_on_a_swin_equals_a_loop_over_images_windows_and_pairs(name):
    plain, method, x = swin(), filled(swin(), name, prompts=2), images(40)
    plain.head = method.model.head
    maps, sets = [], iter(method.parts)
    for image in plain.patch_embed(x):
        sets, prompts = iter(method.parts), None
        for stage in plain.layers:
            if not isinstance(stage.downsample, nn.Identity):
                if prompts is not None and name == "vpt_shallow":
                    prompts = stage.downsample.reduction(stage.downsample.norm(torch.cat([prompts] * 4, -1)))
                image = stage.downsample(image[None])[0]
            for block in stage.blocks:
                prompts = next(sets).tokens if name == "vpt_deep" or prompts is None else prompts
                prompts, image = slow_window_block(block, prompts, image)
        maps.append(image)
    assert next(sets, None) is None
    same(method.model(x), plain.forward_head(plain.norm(torch.stack(maps))))


def test_prompts_start_uniform_the_head_as_asked_and_the_backbone_stays_in_eval_mode():
    method = METHODS["vpt_deep"](vit(), prompts=200, dropout=0.5, vpt_head=True)
    bound = math.sqrt(6 / (3 * 256 + 32))
    for part in method.parts:
        assert 0.98 * bound < part.tokens.abs().max() <= bound
        assert abs(part.tokens.std() * math.sqrt(3) / bound - 1) < 0.05
    torch.testing.assert_close(method.head.bias, torch.full_like(method.head.bias, -math.log(99)))
    method.model.train()
    method.before_step(None)
    training = {m for m in method.model.modules() if m.training}
    assert training == {m for part in method.parts for m in part.modules()}


def test_starts_are_those_of_the_sources():
    def part(name, **options):
        torch.manual_seed(5)
        return METHODS[name](vit(embed_dim=384, num_heads=6, depth=1), hidden=64, **options).parts[0]

    adapter, former, plus = part("adapter"), part("adaptformer"), part("adapter_plus")
    for layer in (adapter.down, adapter.up):
        assert abs(layer.weight.std() / 0.02 - 1) < 0.03 and not layer.bias.any()
    assert not former["up"].weight.any() and not former["up"].bias.any() and not former["down"].bias.any()
    assert 0.98 / math.sqrt(384) < former["down"].weight.abs().max() <= 1 / math.sqrt(384)
    for layer in (plus["down"], plus["up"]):
        assert 0.0195 < layer.weight.abs().max() <= 0.02 and not layer.bias.any()
    assert torch.equal(plus.scale, torch.ones_like(plus.scale))


@pytest.mark.parametrize("name", NAMES)
def test_other_timm_vits(name):
    kwargs = {"qk_norm": True, "init_values": 0.1, "reg_tokens": 2, "drop_path_rate": 0.1}
    method = filled(vit(**kwargs), name)
    assert method.model.train()(images()).isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"), [("adapter", {"hidden": 0}), ("vpt_deep", {"prompts": 0}), ("adaptformer", {"variant": "x"})]
)
def test_impossible_options_are_refused(name, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        METHODS[name](vit(), **options)
