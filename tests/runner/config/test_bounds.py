"""Numbers, names and mappings that a slip makes: refused by the field that they are about, in one line."""

import pytest

from runner.config.errors import ConfigError
from tests.helpers.composing import resolved

BIG = "1" + 30 * "0"


@pytest.mark.parametrize(
    ("override", "bound"),
    [
        ("seed=-1", "at least 0 and at most 4294967295"),
        ("seed=18446744073709551616", "at least 0 and at most 4294967295"),
        (f"search.seed={BIG}", "at least 0 and at most 4294967295"),
        (f"trainer.epochs={BIG}", "at least 1 and at most 1000000"),
        (f"trainer.max_steps={BIG}", "at least 1 and at most 2147483647"),
        (f"search.population={BIG}", "at least 1 and at most 100000"),
        (f"search.generations={BIG}", "at least 1 and at most 100000"),
        (f"search.finetune_epochs={BIG}", "at least 0 and at most 1000000"),
        (f"search.max_params={BIG}", "at least 0 and at most 2147483647"),
        (f"supernet.draws={BIG}", "at least 1 and at most 1000"),
        ("backbone.image_size=20000", "at least 1 and at most 2048"),
        ("dataset.lr=-1", "positive"),
        ("optimizer.lr=1e38", "above 0 and at most 1e+30"),
        ("optimizer.lr=-inf", "positive"),
        ("optimizer.weight_decay=1e9", "at least 0 and at most 1000"),
        ("supernet.ema=nan", "above 0 and below 1"),
        ("method.trainers.mini.lr=0", "positive"),
        ("method.trainers.mini.lr=nan", "positive"),
        ("method.trainers.mini.epochs=0", "at least 1 and at most 1000000"),
        ("+method.trainers.mini.search.population=0", "at least 1 and at most 100000"),
    ],
)
def test_a_number_beyond_its_field_is_named_with_the_bounds(override, bound):
    key = override.partition("=")[0].removeprefix("+").replace("method.trainers.mini.search", "search")
    with pytest.raises(ConfigError, match=rf"^{key}=\S+ must be {bound.replace('+', '.')}$"):
        resolved("dataset=digits", "trainer=mini", override)


def test_each_value_of_a_list_is_checked():
    with pytest.raises(ConfigError, match=r"^trainer.lr_factors\[1\]=nan must be above 0 and at most 1000000$"):
        resolved("dataset=digits", "trainer.lr_factors=[1,nan]", "hparams=val_grid")
    with pytest.raises(ConfigError, match=r"method.grid.lr=\[1e\+300\] must be numbers, of at most 1e\+30"):
        resolved("dataset=digits", "method.grid.lr=[1e300]", "hparams=val_grid")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ranks=[1000000000]"], "ranks must be at most 4096"),
        (["method=lora", f"method.options.rank={BIG}"], "option rank=1000000000000000000000000000000 must be at most"),
        (["method=lora", "method.options.scale=nan"], "option scale=nan must be at most 1e+30"),
        (["+trainer.lr.glora=0"], "unknown key trainer.lr={'glora': 0}; known keys: batch_size"),
        (["+optimizer.momentum=0.5"], "unknown key optimizer.momentum=0.5"),
        (["seed=${nope}"], "Interpolation key 'nope' not found"),
        (["output_root="], "output_root='' is no path"),
        (['output_root="a\\0b"'.replace("\\0", "\0")], r"output_root='a\x00b' is no path"),
        (["backbone.kwargs.depth=1000000000"], "backbone.kwargs.depth=1000000000 is no number up to 256"),
        (["backbone.kwargs.embed_dim=nan"], "backbone.kwargs.embed_dim=nan is no number up to"),
    ],
)
def test_other_slips_are_one_line_too(overrides, message):
    from data import DataError

    with pytest.raises((ConfigError, DataError)) as caught:
        resolved("dataset=digits", *overrides)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("key", ["backbone.name", "trainer.name", "protocol.name"])
@pytest.mark.parametrize("name", ["../../x", "/etc", "..", ".hidden", "a/b", "a\\\\b", "a\tb", ""])
def test_a_name_never_leads_out_of_output_root(key, name, tmp_path):
    with pytest.raises(ConfigError, match=rf"^{key}=.* becomes part of a folder's name"):
        resolved("dataset=digits", f'{key}="{name}"', f"output_root={tmp_path}")


@pytest.mark.parametrize("name", ["v2", "my backbone", "a..b", "größer", "x+y=z"])
def test_a_plain_name_lies_two_folders_below_output_root(name, tmp_path):
    directory = resolved("dataset=digits", f'backbone.name="{name}"', f"output_root={tmp_path}").directory
    assert directory.parent.parent == tmp_path and directory.name.startswith(f"{name}-glora")


def test_a_name_too_long_for_a_file_system_is_said():
    with pytest.raises(ConfigError, match=r"is too long for a folder \(3\d\d bytes, at most 255\); shorten backbone"):
        resolved("dataset=digits", f"backbone.name={300 * 'x'}")


def test_the_largest_numbers_that_are_allowed_are():
    run = resolved("dataset=digits", "seed=4294967295", "trainer.epochs=1000000", "backbone.image_size=2048",
                   "search.population=100000", "ranks=[4096,8]")  # fmt: skip
    assert (run.seed, run.recipe.epochs, run.method.options["ranks"]) == (4294967295, 1000000, (4096, 8))
