"""Selection by accuracy, loss or probability: measures, the order of candidates, extremes, states, and the noise."""

import json
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from glora import EvolutionSearch, LayerSpec, Measured, NSGA2Search, RandomSearch, SearchSpace
from glora.evaluation import measure, score
from glora.methods.noah_space import NOAHSpace
from glora.options import NONE
from glora.search import SEARCHES, Candidate, best_first, hypervolume, pareto_front, selection_noise
from runner.config.identity import search_directory
from runner.report.plots import plot_fronts, plot_search
from tools.compare_searches import comparison_table

SPACE = SearchSpace(tuple(LayerSpec(f"l{i}", 16, 16, bias=i > 0) for i in range(6)), (4, 2))
SMALL = {"seed": 3, "generations": 4, "population": 12}
BREEDING = {"mutants": 6, "crossovers": 6}


def landscape(subnet):
    """Few accuracies, so that many tie, and a loss and a probability that are no functions of them."""
    rng = random.Random(str(subnet))
    return Measured(rng.randrange(5) / 5, 1 + rng.random(), rng.random())


def finished(kind, fitness=landscape, space=SPACE, **settings):
    own = BREEDING if kind is not RandomSearch else {}
    search = kind(space, fitness, **{**SMALL, **own, **settings})
    while not search.done:
        search.step()
    return search


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 7, 40])
def test_loss_and_probability_are_the_means_over_all_images(dtype, size):
    torch.manual_seed(0)
    model, x, labels = nn.Linear(5, 4).to(dtype), torch.randn(40, 5, dtype=dtype) * 4, torch.randint(0, 4, (40,))
    found = measure(model, x.split(size), labels)
    logits = model(x).detach().double()
    chosen = [math.log(sum(math.exp(v) for v in row)) - row[k] for row, k in zip(logits.tolist(), labels, strict=True)]
    near = 1e-12 if dtype == torch.float64 else 1e-6
    assert found.loss == pytest.approx(math.fsum(chosen) / 40, rel=near)
    assert found.probability == pytest.approx(math.fsum(math.exp(-loss) for loss in chosen) / 40, rel=near)
    assert found.accuracy == score(model, x.split(size), labels) == (logits.argmax(1) == labels).double().mean()


def test_measuring_restores_the_mode_and_sums_in_float32_under_autocast():
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.9)).train()
    x, labels = torch.randn(300, 5), torch.randint(0, 4, (300,))
    found = measure(model, x.split(64), labels, torch.bfloat16)
    assert model.training
    with torch.autocast("cpu", torch.bfloat16):
        logits = model.eval()(x).double()
    assert found.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), rel=1e-5)
    right = logits.softmax(1).gather(1, labels[:, None])
    assert found.probability == pytest.approx(right.mean().item(), rel=1e-5)
    broken = measure(nn.Identity(), [torch.tensor([[math.nan, 0.0], [1.0, 0.0]])], torch.tensor([0, 0]))
    assert broken.accuracy == 0.5 and math.isnan(broken.loss) and math.isnan(broken.probability)


def candidate(index, accuracy, loss=None, params=9, probability=None):
    return Candidate(None, accuracy, params, index, 0, loss, probability)


def test_the_order_of_each_objective_by_hand():
    rows = [candidate(0, 0.5, 2.0, 7), candidate(1, 0.5, 1.0, 9), candidate(2, 0.4, 1.0, 5), candidate(3, 0.5, 1.0, 8)]
    assert [c.index for c in best_first(rows)] == [0, 3, 1, 2]  # as before there were losses: fewer parameters
    assert [c.index for c in best_first(rows, "accuracy", "loss")] == [3, 1, 0, 2]
    assert [c.index for c in best_first(rows, "loss")] == [3, 1, 2, 0]  # accuracy, then parameters
    assert [c.index for c in best_first([*rows, candidate(4, 1.0, math.nan, 0)], "loss")] == [3, 1, 2, 0, 4]
    sure = [candidate(n, a, 1.0, p, q) for n, a, p, q in ((0, 0.5, 7, 0.4), (1, 0.4, 9, 0.6), (2, 0.5, 5, 0.6))]
    assert [c.index for c in best_first([*sure, candidate(3, 1.0, 0.0, 0, math.nan)], "probability")] == [2, 1, 0, 3]
    for objective in ("loss", "probability"):
        with pytest.raises(ValueError, match=f"no {objective} is known"):
            best_first([candidate(0, 0.5)], objective)
    with pytest.raises(ValueError, match="objective=hits"):
        best_first([], "hits")


@pytest.mark.parametrize("kind", SEARCHES.values())
def test_loss_and_probability_take_the_place_of_the_accuracy_everywhere(kind):
    """With a loss or probability that orders as the accuracy of another search does, all propose and find the same."""

    def accuracy(subnet):
        return Measured(random.Random(str(subnet)).random(), 0.0)

    one = finished(kind, accuracy)
    for other in (
        finished(kind, lambda s: Measured(0.0, -accuracy(s).accuracy), objective="loss"),
        finished(kind, lambda s: Measured(0.0, None, accuracy(s).accuracy), objective="probability"),
    ):
        assert [c.subnet for c in one.candidates] == [c.subnet for c in other.candidates]
        assert one.best().subnet == other.best().subnet
        assert [c.subnet for c in one.front()] == [c.subnet for c in other.front()]


@pytest.mark.parametrize("kind", SEARCHES.values())
def test_by_default_losses_change_nothing(kind):
    bare = finished(kind, lambda s: landscape(s).accuracy)
    both = finished(kind)
    assert [c.subnet for c in bare.candidates] == [c.subnet for c in both.candidates]
    assert bare.best().subnet == both.best().subnet
    assert all(c.measured == (c.accuracy, None, None) for c in bare.candidates)
    assert not {"loss", "probability"} & bare.state()["candidates"][0].keys()
    assert [c.measured for c in both.candidates] == [landscape(c.subnet) for c in both.candidates]


@pytest.mark.parametrize(
    "settings", [{}, {"objective": "loss"}, {"objective": "probability"}, {"ties": "loss", "extremes": True}]
)
@pytest.mark.parametrize("kind", SEARCHES.values())
def test_resuming_through_json_equals_the_unbroken_search(kind, settings):
    whole = finished(kind, **settings)
    for stop in (1, 3):
        first = finished(kind, generations=stop, **settings)
        second = kind(SPACE, landscape, **{**SMALL, **(BREEDING if kind is not RandomSearch else {}), **settings})
        second.load_state(json.loads(json.dumps(first.state())))
        while not second.done:
            second.step()
        assert second.candidates == whole.candidates


def test_a_state_with_accuracies_alone_continues_by_accuracy_and_is_refused_by_what_it_lacks():
    state = finished(EvolutionSearch, lambda s: landscape(s).accuracy, generations=2).state()
    by_accuracy = EvolutionSearch(SPACE, landscape, **SMALL, **BREEDING)
    by_accuracy.load_state(state)
    while not by_accuracy.done:
        by_accuracy.step()
    assert [c.subnet for c in by_accuracy.candidates] == [c.subnet for c in finished(EvolutionSearch).candidates]
    for settings in ({"objective": "loss"}, {"ties": "loss"}, {"objective": "probability"}):
        search = EvolutionSearch(SPACE, landscape, **SMALL, **BREEDING, **settings)
        with pytest.raises(ValueError, match="not all of its candidates have a (loss|probability)"):
            search.load_state(state)
        assert not search.candidates
        with pytest.raises(ValueError, match="gives no (loss|probability)"):
            finished(EvolutionSearch, lambda s: landscape(s).accuracy, **settings)


@pytest.mark.parametrize("kind", SEARCHES.values())
def test_the_extremes_come_first_and_the_budget_stays(kind):
    search = finished(kind, extremes=True)
    assert len(search.candidates) == 48 == len({c.subnet for c in search.candidates})
    assert [c.subnet for c in search.candidates[:7]] == list(SPACE.extremes)
    plain = finished(kind)
    assert [c.subnet for c in search.candidates[7:12]] == [c.subnet for c in plain.candidates[:5]]
    limit = SPACE.params_range[1] // 2
    small = finished(kind, extremes=True, max_params=limit)
    assert SPACE.smallest == small.candidates[0].subnet and max(c.params for c in small.candidates) <= limit


def test_the_extremes_are_the_largest_the_smallest_and_each_tensor_alone():
    largest, smallest, *alone = SPACE.extremes
    assert (largest, smallest) == (SPACE.largest, SPACE.smallest) and len(alone) == 5
    for place, subnet in enumerate(alone):
        for config, full in zip(subnet.layers, largest.layers, strict=True):
            assert all(o == (f if i == place else NONE) for i, (o, f) in enumerate(zip(config, full, strict=True)))
    narrow = SearchSpace(SPACE.layers, (2,), "A")
    assert narrow.extremes == (narrow.largest, narrow.smallest)
    noah = NOAHSpace(4, 8)
    assert len(noah.extremes) == 5
    for subnet in noah.extremes:
        noah.check(subnet)


def test_the_hypervolume_of_losses_is_that_of_their_distance_to_the_reference():
    found = [candidate(0, 0.1, 1.5, 4), candidate(1, 0.2, 0.5, 8), candidate(2, 0.3, 2.5, 2)]
    points = [(c.params, c.worth("loss")) for c in found]
    assert hypervolume(points, (10, -2.0)) == pytest.approx(6 * 0.5 + 2 * 1.0)
    assert pareto_front(points) == [2, 0, 1]


def test_the_selection_noise_by_hand():
    rows = [candidate(i, hits / 200) for i, hits in enumerate([160, 155, 154, 154, 166, 100])]
    noise = selection_noise(rows, rows[0], 200)
    assert noise.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 200)) == pytest.approx(0.02828, abs=1e-5)
    assert noise.within == 1  # 155 hits; 0.77 and 0.83 are 0.03 away
    certain = [candidate(0, 1.0), candidate(1, 1.0), candidate(2, 0.99)]
    assert selection_noise(certain, certain[0], 100) == (0.0, 1)
    with pytest.raises(ValueError, match="images=0"):
        selection_noise(rows, rows[0], 0)


def test_settings_go_by_the_configs_names_and_unknown_ones_are_left_out():
    keys = vars(NSGA2Search.settings()())
    assert keys["fitness"] == "accuracy" and keys["ties"] == "params" and keys["extremes"] is False
    assert "objective" not in keys
    made = RandomSearch.with_settings(SPACE, landscape, {**keys, "fitness": "loss", "generations": 2})
    assert made.objective == "loss" and made.generations == 2 and made.fitness is landscape
    with pytest.raises(ValueError, match="objective=hits"):
        RandomSearch.with_settings(SPACE, landscape, {"fitness": "hits"})


def test_directories_of_before_keep_their_names(tmp_path):
    before = {"seed": 1, "generations": 20, "population": 50, "min_params": 0, "max_params": None, "val_limit": 1000}
    default = before | {"fitness": "accuracy", "ties": "params", "extremes": False, "random_subnets": 20}
    assert search_directory(tmp_path, "random", default) == search_directory(tmp_path, "random", before)
    for changed in ({"fitness": "loss"}, {"ties": "loss"}, {"extremes": True}, {"random_subnets": 5}):
        assert search_directory(tmp_path, "random", default | changed) != search_directory(tmp_path, "random", before)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_pictures_of_losses_stand_like_those_of_accuracies(tmp_path):
    """A loss that falls as the accuracy rises: the same points at the same places, only the axis is another."""
    rows = [
        {"params": 1000 * (i % 7), "accuracy": i / 40, "loss": 100 * (1 - i / 40), "generation": 0} for i in range(40)
    ]
    found = [pixels(plot_search(rows, 39, tmp_path / f"{o}.png", objective=o)) for o in ("accuracy", "loss")]
    stars = [np.abs(image - (0xE6, 0x9F, 0x00)).max(axis=-1) < 12 for image in found]
    heights = [np.nonzero(star[: len(star) // 2])[0].mean() for star in stars]
    assert heights[0] == pytest.approx(heights[1], abs=3)
    fronts = {"random": [[(c["params"], -c["loss"]) for c in rows[:7]]]}
    assert pixels(plot_fronts(fronts, tmp_path / "fronts.png", "loss")).std() > 1


def test_a_comparison_by_loss_names_its_reference():
    figures = {"evaluated": 8, "val_accuracy": 0.5, "val_loss": 1.5, "params": 70, "hypervolume": 0.25}
    record = {"reference": {"params": 100, "loss": math.log(10)}, "searches": {"random": [figures]}}
    table = comparison_table(record, "digits")
    assert "loss 2.303, chance) to (0 parameters, loss 0)" in table.notes[0]
    assert table.rows == [["random", "0.2500", "50.0", "70", "8", "1"]]
