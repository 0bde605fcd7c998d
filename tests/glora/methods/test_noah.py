"""NOAH: blocks and counts against independent evaluations, and its space's operators under every search."""

import json
import random
from dataclasses import replace
from statistics import fmean

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer

from data.tasks import SUITES, TASKS
from glora.methods import NotDefined
from glora.methods.noah import NOAH
from glora.methods.noah_space import MODULES, NOAHSpace, NOAHSubnet
from glora.methods.noah_subnets import PUBLISHED
from glora.search import SEARCHES, EvolutionSearch
from tests.helpers.small_models import same

COUNTS = {
    "caltech101": 426_313,
    "cifar100": 320_330,
    "clevr_count": 382_543,
    "clevr_dist": 353_332,
    "retinopathy": 382_533,
    "dmlab": 392_511,
    "dspr_loc": 334_914,
    "dspr_ori": 387_151,
    "dtd": 287_298,
    "eurosat": 397_907,
    "kitti_dist": 397_888,
    "flowers102": 386_367,
    "pets": 365_622,
    "camelyon": 330_290,
    "resisc45": 365_621,
    "snorb_azim": 291_877,
    "snorb_ele": 321_090,
    "sun397": 287_278,
    "svhn": 431_686,
}
VIT_B = NOAHSpace(12, 768)
SUBNET = "5 0 10 1 | 1 5 10 0 | 10 5 0 0"  # prompts persist through block 1; modules end early


def vit(depth=4, **kwargs):
    torch.manual_seed(0)
    options = {"img_size": 32, "patch_size": 16, "embed_dim": 32, "num_heads": 2, "num_classes": 5, "depth": depth}
    return timm.create_model("vit_base_patch16_224", **(options | kwargs)).double().eval()


def filled(model, **options):
    torch.manual_seed(1)
    method = NOAH(model, **options)
    with torch.no_grad():
        for p in method.trainable().values():
            p.add_(torch.randn_like(p), alpha=0.3)
    model.eval()
    return method


def images():
    return torch.randn(3, 3, 32, 32, dtype=torch.double, generator=torch.Generator().manual_seed(2))


def dense(plain, method, subnet):
    """The logits by the formulas, on the plain model, with the first rows of the stored tensors."""
    state = method.state_dict()
    x = plain._pos_embed(plain.patch_embed(images()))
    tokens = x.shape[1]
    for i, block in enumerate(plain.blocks):
        p, r, h = (v[i] for v in subnet.vectors)
        at, inner = f"blocks.{i}.", f"blocks.{i}.block."
        if p:
            x = torch.cat([x[:, :tokens], state[at + "prompts.tokens"][:p].expand(len(x), -1, -1)], 1)
        y = block.norm1(x)
        weight = block.attn.qkv.weight
        if r:
            up, down = state[inner + "attn.qkv.up.0"][:, :r], state[inner + "attn.qkv.down.0"][:r]
            weight = weight + up @ down
        q, k, v = (y @ weight.T + block.attn.qkv.bias).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        mixed = torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
        x = x + block.attn.proj(mixed.transpose(1, 2).flatten(2))
        z = block.mlp(block.norm2(x))
        if h:
            ad = {
                k: state[f"{inner}drop_path2.adapter.{k}"] for k in ("down.weight", "down.bias", "up.weight", "up.bias")
            }
            t = z @ ad["down.weight"][:h].T + ad["down.bias"][:h]
            z = z + (t / (1 + torch.exp(-1.702 * t))) @ ad["up.weight"][:, :h].T + ad["up.bias"]
        x = x + z
    plain.head = method.head
    return plain.forward_head(plain.norm(x[:, :tokens]))


@pytest.mark.parametrize("kwargs", [{}, {"class_token": False, "global_pool": "avg"}])
def test_a_given_subnet_and_the_supernet_are_their_dense_formulas(kwargs):
    subnet = NOAHSubnet.parse(SUBNET)
    fixed = filled(vit(**kwargs), subnet=SUBNET)
    same(fixed.model(images()), dense(vit(**kwargs), fixed, subnet))
    supernet, rng, seen = filled(vit(**kwargs)), random.Random(0), []
    for subnet in (*(supernet.space.sample(rng) for _ in range(6)), supernet.space.largest, supernet.space.smallest):
        found = supernet.evaluator().write(subnet)(images())
        same(found, dense(vit(**kwargs), supernet, subnet))
        assert all((found - other).abs().max() > 1e-3 for other in seen)
        seen.append(found)


def test_a_subnet_of_the_supernet_is_the_fresh_modules_with_its_leading_slices():
    supernet, rng = filled(vit()), random.Random(1)
    state = supernet.state_dict()
    for _ in range(5):
        subnet = supernet.space.sample(rng)
        fresh = NOAH(vit(), subnet=str(subnet))
        assert fresh.params() == supernet.space.params(subnet)
        fresh.load_state_dict(
            {n: state[n][tuple(slice(s) for s in p.shape)].contiguous() for n, p in fresh.trainable().items()}
        )
        same(fresh.model.eval()(images()), supernet.write(subnet)(images()))


def test_training_draws_subnets_of_the_space_but_never_leaves_a_given_one():
    supernet, fixed = NOAH(vit()), NOAH(vit(), subnet=SUBNET)
    drawn = set()
    for step in range(20):
        supernet.before_step(random.Random(step))
        fixed.before_step(random.Random(step))
        supernet.space.check(supernet.current)
        drawn.add(supernet.current)
        assert str(fixed.current) == SUBNET
    assert len(drawn) > 15
    with pytest.raises(ValueError, match="one subnet"):
        fixed.set(supernet.current)
    x = images()
    assert not torch.equal(fixed.model.train()(x), fixed.model(x))  # dropout
    assert torch.equal(fixed.model.eval()(x), fixed.model(x))


def test_starting_values():
    method = NOAH(vit(embed_dim=64).float(), subnet="10 5 1 1 | 10 5 1 1 | 10 5 1 1")
    for i, p in ((0, 10), (1, 5)):
        tokens = method.layers[i]["prompt"].tokens
        bound = (6 / (64 * (p + 1))) ** 0.5
        assert 0.9 * bound < tokens.abs().max() <= bound
        assert not method.layers[i]["lora"].up[0].any() and method.layers[i]["lora"].down[0].any()
        down, up = method.layers[i]["adapter"].down, method.layers[i]["adapter"].up
        assert 0.01 < up.weight.std() < 0.03 and not down.bias.any() and not up.bias.any()
    both = NOAH(vit(embed_dim=64), effective_noah_init=True).layers[0]["lora"]
    assert 0.015 < both.up[0].std() < 0.025 and 0.015 < both.down[0].std() < 0.025


def test_the_19_published_subnets_have_their_counts_and_table_1s_mean():
    assert PUBLISHED.keys() == COUNTS.keys() == set(SUITES["vtab"])
    for task, text in PUBLISHED.items():
        subnet = NOAHSubnet.parse(text)
        VIT_B.check(subnet)
        assert VIT_B.params(subnet) == COUNTS[task] and str(subnet) == text
    groups = {
        g: [COUNTS[t] for t in SUITES["vtab"] if TASKS[t].group == g] for g in ("natural", "specialized", "structured")
    }
    assert round(fmean(fmean(v) for v in groups.values())) == 361_531
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224", num_classes=10)
    assert NOAH(model, subnet=PUBLISHED["svhn"]).params() == COUNTS["svhn"]


def test_depths_are_quarters_and_sampling_is_uniform_over_them():
    assert VIT_B.depths == (3, 6, 9, 12) and NOAHSpace(6, 8).depths == (2, 3, 5, 6) and NOAHSpace(1, 8).depths == (1,)
    rng, seen = random.Random(0), {d: 0 for d in VIT_B.depths}
    widths = {1: 0, 5: 0, 10: 0}
    for _ in range(2000):
        subnet = VIT_B.sample(rng)
        VIT_B.check(subnet)
        for v in subnet.vectors:
            seen[12 - v.count(0)] += 1
            for k in filter(None, v):
                widths[k] += 1
    assert all(abs(n / 6000 - 1 / 4) < 0.03 for n in seen.values())
    assert all(abs(n / sum(widths.values()) - 1 / 3) < 0.02 for n in widths.values())


def test_mutation_changes_depths_alone_and_as_often_as_published():
    rng, changed = random.Random(0), 0
    for _ in range(3000):
        parent = VIT_B.sample(rng)
        child = VIT_B.mutate(parent, 0.2, rng)
        VIT_B.check(child)
        for a, b in zip(parent.vectors, child.vectors, strict=True):
            assert all(x == y for x, y in zip(a, b, strict=True) if x and y)
            changed += a != b
    assert abs(changed / 9000 - 0.2 * 0.4 * 3 / 4) < 0.01  # the new depth is the old one in a quarter of the draws
    assert VIT_B.mutate(parent, 0.0, rng) == parent


def test_crossover_takes_whole_vectors_from_either_parent():
    rng, seen = random.Random(0), set()
    one, other = VIT_B.sample(rng), VIT_B.sample(rng)
    for _ in range(200):
        child = VIT_B.cross(one, other, rng)
        picks = [v == a for v, a in zip(child.vectors, one.vectors, strict=True)]
        assert all(v in (a, b) for v, a, b in zip(child.vectors, one.vectors, other.vectors, strict=True))
        seen.add(tuple(picks))
    assert len(seen) == 8


@pytest.mark.parametrize(("low", "high"), [(0, 640_000), (0, 30_000), (600_000, 654_456), (350_000, 370_000)])
def test_fitting_reaches_the_limits_and_stays_in_the_space(low, high):
    rng = random.Random(0)
    fitted = [VIT_B.fit(VIT_B.sample(rng), low, high, rng) for _ in range(50)]
    found = [subnet for subnet in fitted if subnet is not None]
    assert len(found) >= 40  # a search draws again where one attempt fails
    for subnet in found:
        VIT_B.check(subnet)
        assert low <= VIT_B.params(subnet) <= high


def test_members_survive_json_and_strangers_are_refused():
    subnet = VIT_B.sample(random.Random(0))
    assert (
        VIT_B.from_json(VIT_B.to_json(subnet)) == VIT_B.decode(json.loads(json.dumps(VIT_B.encode(subnet)))) == subnet
    )
    assert sum(VIT_B.sizes(subnet).values()) == VIT_B.params(subnet) and len(VIT_B.choices(subnet)) == 12
    assert VIT_B.choices(subnet)["blocks.0"] == {m: str(v[0]) for m, v in zip(MODULES, subnet.vectors, strict=True)}
    for wrong in (
        replace(subnet, lora=(2,) * 12),
        replace(subnet, lora=(1, 0) * 6),
        replace(subnet, lora=(1,) * 4 + (0,) * 8),
    ):
        with pytest.raises(ValueError, match="lora"):
            VIT_B.check(wrong)
    with pytest.raises(ValueError, match="prompt, lora, adapter"):
        VIT_B.from_json("{}")
    for text in ("best", "1 1 | 1 1", "1 1 | 1 1 | a b", "1 1 | 1 1 | 1", "1 1 | 1 1 | "):
        with pytest.raises(ValueError, match="subnet"):
            NOAH(vit(2), subnet=text)
    with pytest.raises(ValueError, match="3 blocks, the model 2"):
        NOAH(vit(2), subnet="1 1 1 | 1 1 1 | 1 1 1")


def test_a_swin_is_refused():
    with pytest.raises(NotDefined, match="method=noah is defined on ViTs"):
        NOAH(SwinTransformer(img_size=32, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 2)))


@pytest.mark.parametrize("kind", SEARCHES.values())
def test_searches_meet_their_budget_and_limit_and_resume_to_the_same_candidates(kind):
    def fitness(subnet):
        return sum(v.count(10) for v in subnet.vectors) / 36

    def make():
        return kind(VIT_B, fitness, seed=2, generations=4, population=20, max_params=300_000)

    whole = make()
    while not whole.done:
        assert len(whole.step()) == 20
    assert len({c.subnet for c in whole.candidates}) == 80 and max(c.params for c in whole.candidates) <= 300_000
    for stop in range(1, 4):
        first, second = make(), make()
        for _ in range(stop):
            first.step()
        second.load_state(json.loads(json.dumps(first.state())))
        while not second.done:
            second.step()
        assert second.candidates == whole.candidates


def test_evolution_improves_on_its_first_generation():
    search = EvolutionSearch(VIT_B, lambda s: sum(v.count(10) for v in s.vectors) / 36, generations=15)
    first = max(c.accuracy for c in search.step())
    while not search.done:
        search.step()
    assert search.best().accuracy > first + 0.05
