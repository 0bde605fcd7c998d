"""What a config says of searches and winners: by protocol, by method, or typed."""

import pytest

from runner.config.errors import ConfigError
from tests.helpers.composing import resolved


def test_the_reference_protocol_limits_the_search_on_vit_b_alone():
    overrides = ["dataset=cifar100", "protocol=reference_2023_06"]
    assert resolved(*overrides).search.max_params == 1_000_000
    assert resolved(*overrides, "backbone=swin_b_in22k").search.max_params is None
    assert resolved("dataset=cifar100").search.max_params is None


def test_what_a_search_goes_by_and_begins_with_is_typed_or_the_methods_or_the_protocols():
    def found(*overrides):
        choice = resolved("dataset=digits", *overrides).search
        return choice.settings["fitness"], choice.settings["extremes"]

    for search in ("evolution", "nsga2", "random", "mini"):
        assert found(f"search={search}") == ("probability", True)
        assert found(f"search={search}", "protocol=reference_2023_06") == ("accuracy", False)
    assert resolved("dataset=digits", "protocol=reference_2023_06").form == ""
    assert found("protocol=clean_1000", "method=noah") == ("probability", True)
    words = ["protocol=reference_2023_06", "+method.search.fitness=loss"]
    assert found(*words) == ("loss", False)
    assert found(*words, "search.fitness=probability", "search.extremes=true") == ("probability", True)
    usual = resolved("dataset=digits").result_directory
    for words in (["search.fitness=probability"], ["search.fitness=null", "search.extremes=null"]):
        assert resolved("dataset=digits", *words).result_directory == usual
    for word in ("search.fitness=accuracy", "search.extremes=false"):
        assert resolved("dataset=digits", word).result_directory != usual


def test_what_a_protocol_says_of_searches_names_them_and_not_the_training():
    for words in ([], ["protocol.measured=last", "protocol.name=mine"]):
        base = resolved("dataset=digits", *words)
        assert not {"fitness", "extremes"} & set(base.identity["protocol"])
        for word in ("protocol.fitness=loss", "protocol.extremes=false"):
            other = resolved("dataset=digits", *words, word)
            assert other.directory == base.directory and other.search.directory != base.search.directory
    with pytest.raises(ConfigError, match="protocol.fitness=hits is not one of accuracy, loss, probability"):
        resolved("dataset=digits", "protocol.fitness=hits")


def test_what_a_method_says_of_its_search_holds_unless_it_is_typed():
    plus = resolved("dataset=digits", "trainer=mini", "method=glora_plus", "search=mini")
    assert (plus.recipe.sampling, plus.recipe.epochs, plus.search.finetune_epochs) == ("sandwich", 60, 30)
    assert (plus.search.max_share, plus.search.settings["fitness"], plus.search.settings["population"]) == (
        0.34,
        "loss",
        25,
    )
    words = ["trainer.epochs=60", "supernet.sampling=sandwich", "search=mini", "search.fitness=loss",
             "search.extremes=true", "search.max_share=0.34", "search.finetune_epochs=30"]  # fmt: skip
    assert resolved("dataset=digits", "trainer=mini", *words).result_directory == plus.result_directory
    typed = resolved("dataset=digits", "trainer=mini", "method=glora_plus", "search.fitness=accuracy",
                     "search.finetune_epochs=0", "supernet.sampling=uniform").search  # fmt: skip
    assert typed.settings["fitness"] == "accuracy" and typed.finetune_epochs == 0 and typed.max_share == 0.34
    paper = resolved("dataset=cifar100", "method=glora_plus")
    assert (paper.recipe.epochs, paper.search.finetune_epochs) == (200, 100)


def test_a_typed_limit_takes_the_place_of_the_methods():
    plus = ("dataset=digits", "trainer=mini", "method=glora_plus")
    typed = resolved(*plus, "search.max_params=200000").search
    assert (typed.max_params, typed.max_share) == (200_000, None)
    assert resolved(*plus, "search.max_params=null").search.max_share == 0.34
    both = resolved(*plus, "search.max_params=200000", "search.max_share=0.5").search
    assert (both.max_params, both.max_share) == (200_000, 0.5)
    assert resolved(*plus, "method.search.finetune_epochs=5").search.finetune_epochs == 5  # not the trainer's


def test_mini_paper_trains_supernets_five_times_as_long_as_baselines():
    found = {
        m: resolved("dataset=digits", "trainer=mini_paper", f"method={m}").recipe for m in ("glora", "noah", "lora")
    }
    assert {m: r.epochs for m, r in found.items()} == {"glora": 150, "noah": 150, "lora": 30}
    assert found["glora"].lr == resolved("dataset=digits", "trainer=mini").recipe.lr == 5e-3
    plus = [resolved("dataset=digits", f"trainer={t}", "method=glora_plus").recipe for t in ("mini", "mini_paper")]
    assert plus[0] == plus[1] and 2 * plus[0].epochs + 30 == 150  # no more steps than that


def test_a_winner_of_the_space_has_no_limit_and_no_search_in_its_name():
    words = ("dataset=digits", "trainer=mini", "method=glora_plus", "search.winner=largest")
    found = resolved(*words).search
    assert (found.max_share, found.max_params, found.finetune_epochs) == (None, None, 30)
    assert found.directory.name.startswith("largest-")
    # What decides nothing names nothing; what becomes of the winner does.
    assert (
        found.directory == resolved(*words, "search=nsga2", "search.seed=7", "search.fitness=accuracy").search.directory
    )
    others = [resolved(*words[:-1], w).search.directory for w in ("search.winner=mean", "search.winner=soup")]
    others.append(resolved(*words, "search.finetune_epochs=0").search.directory)
    assert len({found.directory, *others}) == 4
    # What would be wrong with a search is not wrong here; the protocol's limit is on what a search finds, too.
    assert resolved(*words, "search.ties=loss").search.directory == found.directory
    paper = resolved("dataset=cifar100", "protocol=reference_2023_06", "search.winner=largest").search
    assert paper.max_params is None and resolved("dataset=cifar100", "protocol=reference_2023_06").search.max_params


def test_what_a_winner_trains_with_draws_and_averages_nothing():
    noah = resolved("dataset=digits", "method=noah", "supernet.ema=0.99", "supernet.sampling=sandwich")
    assert (noah.recipe.ema, noah.recipe.sampling) == (0.99, "sandwich")
    assert (noah.search.retrain.ema, noah.search.retrain.sampling) == (None, "uniform")
    # The tasks of one row share the name of their search, whatever their rates.
    found = [resolved(f"dataset={d}", "method=glora_plus") for d in ("dtd", "clevr_count")]
    assert found[0].recipe.lr != found[1].recipe.lr
    assert len({r.search.directory.name for r in found}) == 1 == len({r.recipe_digest for r in found})


def test_the_number_of_random_subnets_names_a_search_beside_which_they_are_measured():
    words = ("dataset=digits", "trainer=mini", "search.random_subnets=5")
    for method, measured in (("glora", True), ("noah", False)):  # NOAH's winner trains anew, without them
        few, usual = resolved(*words, f"method={method}"), resolved(*words[:2], f"method={method}")
        assert few.directory == usual.directory
        assert (few.search.directory != usual.search.directory) == measured
    assert resolved(*words[:2], "search.random_subnets=20").search.directory == resolved(*words[:2]).search.directory
