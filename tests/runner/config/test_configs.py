"""Every YAML composes with the schema, recursively, and the published recipe gives its numbers."""

import pytest

from data import SUITES
from glora.methods import METHODS
from runner.config.errors import ConfigError
from tests.helpers.composing import CONFIGS, composed, jobs, resolved

GROUPS = sorted(p.relative_to(CONFIGS).with_suffix("") for p in CONFIGS.rglob("*.yaml") if p.parent != CONFIGS)


def test_number_of_files():
    assert len(GROUPS) == 78 and len(list(CONFIGS.rglob("*.yaml"))) == 80


@pytest.mark.parametrize("path", GROUPS, ids=str)
def test_every_yaml_composes_and_is_accepted(path, tmp_path):
    group, name = path.parent.as_posix(), path.name
    assert (CONFIGS / path).with_suffix(".yaml").read_text().startswith("#"), (
        "its first line gives the command or source"
    )
    overrides = ["dataset=digits"] if group != "dataset" else []
    extra = ["backbone.timm_name=vit_small_patch16_224"] if name == "timm" else []
    if group == "sweep":  # the sweeper gives each job its task
        overrides = ["dataset=cifar100"]
    if name == "folder":
        (tmp_path / "list.txt").write_text("".join(f"{i}.png {i % 2}\n" for i in range(200)))
        for i in range(200):
            (tmp_path / f"{i}.png").touch()
        extra = [f"dataset.root={tmp_path}"]
    config = resolved(*overrides, f"{group}={name}", *extra)
    assert config.seed == 0


@pytest.mark.parametrize("task", SUITES["vtab"])
def test_learning_rates_are_those_of_the_papers_table_4(task):
    config = resolved(f"dataset={task}")
    slow = {"retinopathy", "clevr_count", "clevr_dist", "snorb_ele"}
    assert config.recipe.lr == (1e-4 if task in slow else 5e-4)
    recipe = config.recipe
    assert (recipe.epochs, recipe.batch_size, recipe.warmup_epochs, recipe.weight_decay) == (500, 64, 10, 1e-4)


def test_defaults_are_the_documented_ones():
    config = resolved("dataset=cifar100")
    assert config.backbone.timm_name == "vit_base_patch16_224.orig_in21k"
    assert (config.method.name, config.method.options["ranks"], config.trainer) == ("glora", (8, 4), "paper")
    assert (config.protocol.name, config.data.normalization, config.backbone.drop_path_rate) == (
        "clean",
        "imagenet",
        0.1,
    )
    assert resolved("dataset=digits").backbone.name == "vit_micro"
    assert resolved("dataset=digits", "backbone=swin_b_in22k").backbone.name == "swin_b_in22k"


@pytest.mark.parametrize(
    "override",
    ["optimizer.weight_decay=-1", "optimizer.min_lr=-1e-5", "optimizer.warmup_lr=nan", "search.mutants=-4",
     "search.crossovers=-1", "search.max_params=-1", "search.mutation_probability=3", "backbone.image_size=0",
     "backbone.drop_path_rate=1.5", "backbone.drop_path_rate=-0.1"],
)  # fmt: skip
def test_numbers_out_of_range_are_named(override):
    with pytest.raises(ConfigError, match=rf"^{override.partition('=')[0]}=\S+ must be"):
        resolved("dataset=digits", override)


def test_ranks_typed_for_another_method_are_refused_with_its_own_option():
    overrides = ["dataset=digits", "ranks=[4]"]
    with pytest.raises(
        ConfigError, match=r"ranks=\[4\] is for method=glora and method=glora_subnet alone; write method.options.rank="
    ):
        resolved(*overrides, "method=lora")
    assert resolved(*overrides, "method=full").method.name == "full"
    assert resolved(*overrides).method.options["ranks"] == (4,)


def test_all_problems_are_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        resolved("dataset=digits", "ranks=[4,8]", "trainer.batch_size=0", "optimizer.lr=-1", "hparams=mine")
    assert len(str(caught.value).splitlines()) == 4


def test_a_typed_default_changes_no_folder_and_a_real_change_does():

    base = resolved("dataset=digits")
    directory = base.directory
    for override in ("seed=0", "optimizer.lr=5e-4", "device=cpu", "search.population=9", "logger.wandb=offline"):
        assert resolved("dataset=digits", override).directory == directory, override
    for override in ("seed=1", "optimizer.lr=1e-3", "ranks=[4,2]", "protocol=clean_1000", "trainer.epochs=9"):
        assert resolved("dataset=digits", override).directory != directory, override
    assert directory.name.startswith("vit_micro-glora-r8-4-clean-paper-seed0-")
    other = resolved("dataset=digits", "search.population=9")
    assert other.search.directory != base.search.directory


def test_the_space_can_be_cut_to_some_tensors_and_widened_to_convolutions():
    from runner.stages.model import build

    overrides = ("dataset=digits", "backbone=timm", "backbone.timm_name=convnext_atto", "backbone.pretrained=false")
    usual, cut = resolved(*overrides), resolved(*overrides, "tensors=AB", "convs=true", "ranks=[2]")
    assert usual.method.label == "GLoRA-8-4" and cut.method.label == "GLoRA-2 (AB, convolutions too)"
    space = build(cut).space
    assert {"stem.0", "stages.0.blocks.0.conv_dw", "stages.0.blocks.0.mlp.fc1"} <= set(space.names)
    with pytest.raises(ConfigError, match="no nn.Linear outside its classifier, .*; try convs=true"):
        build(usual)  # its MLPs are 1 x 1 convolutions
    assert {tuple(map(len, space.options(layer))) for layer in space.layers} == {(4, 4, 1, 1, 1)}
    assert len({resolved(*overrides, *w).directory for w in ((), ("tensors=AB",), ("convs=true",))}) == 3


def test_every_method_has_a_yaml_that_lists_its_options_with_their_defaults():
    import yaml

    for name, kind in METHODS.items():
        text = yaml.safe_load((CONFIGS / "method" / f"{name}.yaml").read_text())
        assert text["name"] == name and kind.check_options(text.get("options", {})) == kind.options()
        assert text.get("options", {}).keys() == kind.options().keys()
        assert resolved("dataset=cifar100", f"method={name}").recipe.epochs == (
            500 if name in ("glora", "noah") else 100
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=lora", "+method.options.rnak=4"], "has no option 'rnak'; allowed: form='fused_qkv', rank=8"),
        (["method=lora", "method.options.dropout=1.5"], "option dropout=1.5 must be a probability, from 0 up to 1"),
        (["method=adapter_plus", "method.options.drop_path=-1"], "option drop_path=-1.0 must be a probability"),
        (["method=lora", "method.options.rank=four"], "option rank='four' is no int"),
        (["method=linear", "hparams=published"], "no published values for digits"),
        (["method=lora", "hparams=published"], "it has them for cifar100"),
        (["method=glora", "hparams=published"], "published for method=glora are those of hparams=global"),
        (
            ["dataset=dtd", "method=repadapter", "hparams=published", "method.options.place=attention"],
            "method=repadapter are for place=block, not place=attention",
        ),
        (["tensors=BA"], "tensors=BA must be letters of ABCDE in that order"),
        (
            ["method=lora", "convs=true", "tensors=AB"],
            "tensors=AB, convs=True is for method=glora and method=glora_subnet alone",
        ),
        (["optimizer.lr=nan"], "optimizer.lr=nan must be positive"),
        (["device=mps"], "device=mps is not one of those of this machine: auto, cpu"),
        (["optimizer.name=lion"], "optimizer.name=lion is not one of adamw, sgd"),
        (["method=lora", "supernet.sampling=fair"], "supernet.sampling=fair: method=lora trains no supernet"),
        (["supernet.distill=true"], "distill needs the largest subnet in every step: sampling=sandwich, not uniform"),
        (["method=noah", "supernet.sampling=fair"], "supernet.sampling=fair is not for method=noah; use uniform or"),
        (["method=noah", "search.winner=soup"], "search.winner=soup: the subnets of method=noah are no gates"),
        (
            ["method=noah", "search.finetune_epochs=1"],
            "not for method=noah: it trains its winner anew; set search.retrain_epochs",
        ),
        (["search.random_subnets=1"], "search.random_subnets=1 has no spread; type 2 or more, or 0 for none"),
        (["search.learn_gates=true"], "search.learn_gates=True needs search.finetune_epochs"),
        (["search.finetune_scratch=true"], "search.finetune_scratch=True needs search.finetune_epochs"),
        (["search.finetune_lr=1e-3"], "search.finetune_lr=0.001 needs search.finetune_epochs"),
        (["search.soup_size=3"], "search.soup_size=3 is for search.winner=soup or greedy_soup"),
        (["search.fitness=loss", "search.ties=loss"], "search.ties=loss is for ties of accuracy"),
        (["search.ties=loss"], "with search.fitness=probability ties go to the accuracy; type search.fitness=accuracy"),
        (["search.winner=mean", "search.max_share=0.1"], "search.winner=mean averages the whole space"),
        (["search.winner=largest", "search.max_params=5"], "largest is all of the space at once, and a limit on the"),
        (
            ["search.winner=largest", "+method.search.max_share=0.2"],
            "leave out search.max_share, search.max_params",
        ),
        (["search.winner=[largest]"], "search.winner=['largest'] is no text"),
        (
            ["method=noah", "search.winner=largest"],
            "search.winner=largest is not for method=noah, which trains its",
        ),
        (["search.fitness=hits"], "search.fitness=hits is not one of accuracy, loss"),
        (["search.max_share=1.5"], "search.max_share=1.5 must be above 0 and below 1"),
        (["+method.search.speed=1"], "search.speed"),
    ],
)
def test_wrong_options_are_one_clear_message(overrides, message):
    with pytest.raises(ConfigError) as caught:
        resolved("dataset=digits", *overrides)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_options_and_recipe_decide_the_folder_and_typed_defaults_do_not():

    def directory(*overrides):
        return resolved("dataset=dtd", "method=lora", *overrides).directory

    for overrides in (["method.options.scale=1"], ["device=cpu"], ["optimizer.name=adamw"], ["trainer.epochs=100"]):
        assert directory(*overrides) == directory(), overrides
    for overrides in (["method.options.scale=2"], ["optimizer.name=sgd"], ["optimizer.decay_1d=false"],
                      ["hparams=published"]):  # fmt: skip
        assert directory(*overrides) != directory(), overrides

    def row(task, *overrides):
        return resolved(f"dataset={task}", "hparams=published", *overrides).recipe_digest

    for overrides in (["method=ssf"], ["method=lora"], ["method=fact_tk"], ["method=repadapter_attention"]):
        assert row("eurosat", *overrides) == row("svhn", *overrides)
    assert row("dtd", "method=lora") != row("dtd", "method=lora", "method.options.form=qv")
    assert row("dtd", "method=repadapter") != row("dtd", "method=repadapter_attention")


def test_published_values_and_what_is_typed():
    ssf = resolved("dataset=eurosat", "method=ssf", "hparams=published").recipe
    assert (ssf.lr, ssf.weight_decay, ssf.decay_1d, ssf.min_lr) == (3e-3, 5e-2, False, 1e-8)
    assert resolved("dataset=eurosat", "method=ssf", "hparams=published").backbone.drop_path_rate == 0.2
    assert resolved("dataset=svhn", "method=ssf", "hparams=published", "optimizer.lr=1").recipe.lr == 1
    curves = {"glora": "glora", "fact_tk": "glora", "ssf": "timm", "vpt_deep": "vpt", "vpt_shallow": "vpt",
              "adapter_plus": "adapter_plus"}  # fmt: skip
    for method, curve in curves.items():
        assert resolved("dataset=dtd", f"method={method}").recipe.schedule == curve
        assert resolved("dataset=digits", f"method={method}", "trainer=mini").recipe.schedule == "glora"
    assert resolved("dataset=dtd", "method=ssf", "trainer.schedule=vpt").recipe.schedule == "vpt"
    with pytest.raises(ConfigError, match="trainer.schedule=linear is not one of glora, timm, vpt, adapter_plus"):
        resolved("dataset=dtd", "trainer.schedule=linear")
    fact = resolved("dataset=pets", "method=fact_tk", "hparams=published")
    assert fact.method.options == {"rank": 16, "scale": 10.0, "dropout": 0.1}
    attention = resolved("dataset=caltech101", "method=repadapter_attention", "hparams=published")
    assert attention.method.options["scale"] == 10 and attention.method.options["place"] == "attention"
    for name in ("lora", "fact_tt", "fact_tk", "ssf", "adaptformer", "repadapter", "repadapter_attention"):
        table = composed("dataset=dtd", f"method={name}").method.published
        assert list(table) == list(SUITES["vtab"])


def test_rank_variants_are_glora():
    for name, ranks in (("glora_4_2", [4, 2]), ("glora_2", [2])):
        one = resolved("dataset=digits", f"method={name}")
        two = resolved("dataset=digits", "method=glora", f"ranks={ranks}")
        assert one.identity == two.identity and one.directory == two.directory


TABLE1 = ["full", "linear", "bitfit", "vpt_shallow", "vpt_deep", "adapter", "adaptformer", "lora", "noah", "fact_tk",
          "ssf", "repadapter", "glora", "glora_4_2", "glora_2"]  # fmt: skip
TABLE5 = ["full", "linear", "bitfit", "vpt_deep", "fact_tk", "repadapter", "glora"]


@pytest.mark.parametrize(
    ("sweep", "methods", "suite"),
    [("table1", TABLE1, "vtab"), ("table5", TABLE5, "vtab"), ("mini", list(METHODS), "mini")],
)
def test_sweeps_over_methods_make_one_job_for_each_method_and_task(sweep, methods, suite):
    made = jobs(f"sweep={sweep}")
    pairs = {(override("method", job), override("dataset", job)) for job in made}
    assert pairs == {(m, t) for m in methods for t in SUITES[suite]} and len(made) == len(pairs)
    for job in made[:: len(SUITES[suite]) // 2]:
        config = resolved(*job)
        assert config.protocol.name == ("clean" if suite == "mini" else "clean_1000")
        assert config.hparams == ("val_grid" if sweep == "table5" else "global")
        assert config.backbone.name == {"table1": "vit_b16_in21k", "table5": "swin_b_in22k"}.get(sweep, "vit_micro")


def override(key, job):
    (value,) = [w.partition("=")[2] for w in job if w.startswith(f"{key}=")]
    return value


def test_a_typed_method_wins_over_the_sweeps_list():
    assert {override("method", job) for job in jobs("sweep=mini", "method=linear")} == {"linear"}
    assert len(jobs("sweep=mini", "method=linear")) == len(SUITES["mini"])


def test_stochastic_depth_is_left_out_of_what_has_none():
    def backbone(name, *overrides):
        return resolved("dataset=digits", "backbone=timm", f"backbone.timm_name={name}", *overrides).backbone

    assert backbone("ghostnet_050").drop_path_rate == 0 and backbone("vit_tiny_patch16_224").drop_path_rate == 0.1
    with pytest.raises(ConfigError, match="backbone.drop_path_rate=0.1: vgg11 has no stochastic depth"):
        backbone("vgg11", "backbone.drop_path_rate=0.1")
