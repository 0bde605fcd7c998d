"""The winner of a search: its form, its tuning and what compares it, on small runs; killed ones end the same."""

import json
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from glora import Soup
from glora.evaluation import measure
from runner.config.errors import ConfigError
from runner.report.plots_soup import rows_of
from runner.rundir.records import read_winner
from runner.stages import inputs
from runner.stages import train as training
from runner.stages.evaluate import evaluate
from runner.stages.export import export
from runner.stages.inputs import Preprocess, selection_split, split
from runner.stages.model import build, load_trained
from runner.stages.search import find, search
from runner.stages.train import train
from runner.stages.winner import load_tuned, tune_winner
from tests.helpers.commands import forked, kill_when
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL, command, only

GATES = ["search.winner=soup", "search.soup_size=3", "search.learn_gates=true"]
TUNED = ["supernet.sampling=sandwich", "search.fitness=loss", "search.max_share=0.5", "search.finetune_epochs=2",
         "search.finetune_scratch=true", "optimizer.lr=0.02"]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, data_root):
    """A run whose winner was tuned, and trained from its initialization beside that."""
    root = tmp_path_factory.mktemp("tuned")
    run = resolved(*SMALL, *TUNED, f"output_root={root}", f"data_root={data_root}")
    train(run)
    search(run)
    return run


def test_tuning_moves_only_the_winners_tensors_from_the_inherited_weights(tuned):
    directory = tuned.search.directory
    method = load_trained(tuned, tuned.directory)
    winner = read_winner(method.space, directory)
    assert method.space.params(winner) <= 0.5 * method.space.params_range[1]
    after, fresh = load_file(directory / "tuned/weights.safetensors"), build(tuned)
    for kept in (method, fresh):
        kept.keep(winner)
    before = method.state_dict()
    assert after.keys() == before.keys() == load_file(directory / "scratch/weights.safetensors").keys()
    assert sum(v.numel() for n, v in after.items() if "head" not in n) == method.space.params(winner)
    assert any(not torch.equal(after[n], before[n]) for n in after)
    # A tuning of no step would leave what the supernet had; one that began anew would be the scratch comparator.
    far = sum((after[n] - before[n]).square().sum() for n in after)
    assert far < sum((after[n] - v).square().sum() for n, v in fresh.state_dict().items())


@pytest.mark.parametrize(
    ("protocol", "trained", "loaded", "form"),
    [("clean", "train800", {"train800", "val200"}, []), ("clean_1000", "train800val200", {"train800val200"}, GATES)],
)
def test_tuning_sees_the_training_images_alone(protocol, trained, loaded, form, tmp_path, data_root, monkeypatch):
    words = [*TUNED[:-2], *form, f"protocol={protocol}"]
    run = resolved(*SMALL, *words, f"output_root={tmp_path}", f"data_root={data_root}")
    train(run)
    find(run)
    seen, names = [], set()
    real, load = training.Trainer.train_epoch, inputs._load

    def watched(self, images, labels, after_step):
        seen.append(images)
        return real(self, images, labels, after_step)

    monkeypatch.setattr(training.Trainer, "train_epoch", watched)
    monkeypatch.setattr(inputs, "_load", lambda run, name: names.add(name) or load(run, name))
    tune_winner(run, run.search)
    assert names == loaded  # val200 for the accuracies of the log; never the test images
    images = split(run, trained).images
    assert len(seen) == 2 and all(torch.equal(found, images) for found in seen)


def test_the_result_is_the_tuned_winners_and_names_its_comparators(tuned):
    record = evaluate(tuned)
    test, prep = inputs.test_split(tuned), Preprocess(tuned)
    method = load_trained(tuned, tuned.directory)
    winner = read_winner(method.space, tuned.search.directory)
    inherited = measure(method.evaluator().write(winner), [prep(test.images)], test.labels)
    assert record["comparators"]["untuned"]["test"] == inherited.accuracy
    assert record["comparators"]["scratch"]["seconds"] > 0
    best = json.loads((tuned.search.directory / "best.json").read_text())
    assert (record["fitness"], record["selection_noise"]) == ("loss", best["noise"])
    accuracy, images = best["val_accuracy"], best["images"]
    assert best["noise"]["standard_error"] == pytest.approx((accuracy * (1 - accuracy) / images) ** 0.5)
    candidates = json.loads((tuned.search.directory / "evolution.json").read_text())["candidates"]
    near = [c for c in candidates if abs(c["accuracy"] - accuracy) <= best["noise"]["standard_error"]]
    assert best["noise"]["within"] == len(near) - 1
    for name, found in (("tuned", record["test_accuracy"]), ("scratch", record["comparators"]["scratch"]["test"])):
        alone = build(tuned)
        alone.keep(winner)
        alone.load_state_dict(load_file(tuned.search.directory / name / "weights.safetensors"))
        with torch.no_grad():
            hits = (alone.merge().eval()(prep(test.images)).argmax(1) == test.labels).sum()
        assert found == int(hits) / len(test.labels)
    assert record["params"] == method.space.params(winner) and record["tuning_seconds"] > 0
    assert record["form"] == "sandwich, by loss, up to 50 %, tuned 2 epochs"
    exported = load_file(export(tuned) / "model.safetensors")
    expected = load_tuned(tuned, tuned.search).merge().state_dict()
    assert exported.keys() == expected.keys() and all(torch.equal(exported[n], v) for n, v in expected.items())
    val, plain = selection_split(tuned), load_tuned(tuned, tuned.search).merge()
    assert record["tuned_val_accuracy"] == measure(plain, [prep(val.images)], val.labels).accuracy


@pytest.mark.parametrize("form", [[], GATES], ids=["subnet", "learned gates"])
def test_a_killed_tuning_ends_with_the_weights_of_an_unbroken_one(form, tuned, tmp_path, data_root):
    words = [*TUNED, *form]
    unbroken = resolved(*SMALL, *words, f"output_root={tuned.output_root}", f"data_root={data_root}")
    search(unbroken)
    run = resolved(*SMALL, *words, f"output_root={tmp_path}", f"data_root={data_root}")
    train(run)
    find(run)
    kill_when(tmp_path, "tuned/resume_*.pt", command("search.py", tmp_path, data_root, *words))
    assert not list(tmp_path.rglob("tuned/weights.safetensors"))
    with pytest.raises(ConfigError, match="is not trained yet; run search.py"):
        evaluate(run)
    done = forked(command("search.py", tmp_path, data_root, *words))
    assert done.returncode == 0, done.stderr
    for name in ("tuned", "scratch"):
        found = load_file(only(tmp_path, f"{name}/weights.safetensors"))
        expected = load_file(unbroken.search.directory / name / "weights.safetensors")
        assert any(key.endswith(".gates") for key in found) == bool(form)
        assert found.keys() == expected.keys() and all(torch.equal(found[n], expected[n]) for n in found)
    assert not list(tmp_path.rglob("resume_*"))


@pytest.mark.parametrize("form", ["soup", "greedy_soup", "mean", "largest"])
def test_every_form_of_a_winner_is_measured_as_its_merged_model(form, tuned, tmp_path, data_root):
    size = ["search.soup_size=3"] if "soup" in form else []
    words = [*TUNED[:2], f"search.winner={form}", *size, "optimizer.lr=0.02"]
    run = resolved(*SMALL, *words, f"output_root={tuned.output_root}", f"data_root={data_root}")
    assert run.directory == tuned.directory  # one supernet for all
    search(run)
    record, best = evaluate(run), json.loads((run.search.directory / "best.json").read_text())
    method = load_trained(run, run.directory)
    winner = read_winner(method.space, run.search.directory)
    val, prep = selection_split(run), Preprocess(run)
    found = measure(method.evaluator().write(winner), [prep(val.images)], val.labels)
    assert (best["val_accuracy"], best["winner"]) == (found.accuracy, form)
    assert best["val_loss"] == pytest.approx(found.loss, abs=1e-6)
    assert best["val_probability"] == pytest.approx(found.probability, abs=1e-6)
    assert best["members"] in {"soup": [3], "greedy_soup": [1, 2, 3], "mean": [0], "largest": [0]}[form]
    # What the space gives is not searched for: no candidates, no search beside it and no time of one.
    whole = form in ("mean", "largest")
    assert whole == ("random_search" not in record["comparators"]) == ("random_search" not in best)
    assert whole == (record["search_seconds"] is None) == ("by loss" not in record["form"])
    assert whole != (run.search.directory / "evolution.json").exists()
    assert record["params"] == method.space.params(winner) and form.replace("_", " ") in record["form"]
    drawn = {path.stem for path in (run.search.directory / "plots").glob("*.png")} - {"confusion", "classes"}
    if form == "largest":
        assert winner == method.space.largest and drawn == {"options", "params_by_type"}
        return
    assert drawn == {"gates", "params_by_type", *(() if whole else ("candidates", "options"))}
    with Image.open(run.search.directory / "plots" / "gates.png") as image:
        assert image.format == "PNG" and image.width > image.height
    names, rows = rows_of(method.space.gates(winner))
    layer = method.space.gates(winner)[method.space.names[0]]
    assert rows[names.index("B ranks")][0] == pytest.approx(sum(layer["B"]["ranks"]) / 8)
    assert rows[names.index("E vector")][0] == layer["E"]["vector"] and "C scalar" not in names


def test_a_search_that_was_made_is_taken_over_for_another_form_of_its_winner(tmp_path, data_root):
    def found(*words):
        run = resolved(*SMALL, "search.fitness=loss", *words, f"output_root={tmp_path}", f"data_root={data_root}")
        find(run)
        folder = run.search.directory
        states = [(folder / f"{name}.json").read_bytes() for name in ("evolution", "random")]
        return states, (folder / "seconds_evolution.json").read_text(), folder

    train(resolved(*SMALL, f"output_root={tmp_path}", f"data_root={data_root}"))
    states, _, first = found()
    clock = first / "seconds_evolution.json"
    clock.write_text('{"seconds": 1234.5}')  # a search of its own would have another
    assert found("search.winner=soup", "search.soup_size=3")[:2] == (states, clock.read_text())
    assert found("search.finetune_epochs=2")[:2] == (states, clock.read_text())
    # Killed between its two states, it takes the other one too; a clock without its state does not count.
    folder = found("search.winner=greedy_soup")[2]
    for name in ("best.json", "random.json"):
        (folder / name).unlink()
    (folder / "seconds_random.json").write_text('{"seconds": 1.0}')
    kept = (first / "seconds_random.json").read_text()
    assert found("search.winner=greedy_soup")[0] == states and (folder / "seconds_random.json").read_text() == kept
    # Another search, and one of other weights, is made for itself; so is one beside a damaged state.
    other, seconds, _ = found("search.max_share=0.5")
    assert other != states and seconds != clock.read_text()
    best = (first / "best.json").read_text()
    of_others = json.dumps({**json.loads(best), "weights": "those of another training"})
    for name, content in (("random.json", "{}"), ("settings.json", "{}"), ("best.json", of_others)):
        for path in first.parent.iterdir():
            if path != first:
                shutil.rmtree(path)
        whole = (first / name).read_text()
        (first / name).write_text(content)
        assert found("search.winner=greedy_soup")[:2] != (states, clock.read_text())
        (first / name).write_text(whole)


def test_a_sandwich_is_another_supernet_whose_largest_subnet_has_learned_more(tuned, tmp_path, data_root):
    plain = resolved(*SMALL, "optimizer.lr=0.02", f"output_root={tmp_path}", f"data_root={data_root}")
    train(plain)
    losses = []
    for run in (tuned, plain):
        method = load_trained(run, run.directory)
        images = split(run, "train800")
        largest = method.evaluator().write(method.space.largest)
        losses.append(measure(largest, [Preprocess(run)(images.images)], images.labels).loss)
    assert tuned.directory.name != plain.directory.name and losses[0] < losses[1]


@pytest.mark.slow
def test_a_soup_trains_on_and_its_learned_gates_are_those_of_the_evaluated_model(tuned, data_root):
    words = [*TUNED[:2], *GATES, "search.finetune_epochs=2", "optimizer.lr=0.02"]
    run = resolved(*SMALL, *words, f"output_root={tuned.output_root}", f"data_root={data_root}")
    search(run)
    record, soup = evaluate(run), read_winner(build(run).space, run.search.directory)
    after = load_file(run.search.directory / "tuned/weights.safetensors")
    gates = {n: v for n, v in after.items() if n.endswith(".gates")}
    before = torch.tensor(soup.layers, dtype=torch.float32)
    learned = torch.stack([gates[f"{name}.gates"] for name in build(run).space.names])
    assert not torch.equal(learned, before) and torch.equal(learned == 0, before == 0)
    kept = json.loads((run.search.directory / "tuned/winner.json").read_text())
    assert [*kept["layers"]] == list(build(run).space.names)
    named = build(run).space.from_json((run.search.directory / "tuned/winner.json").read_text())
    assert torch.equal(torch.tensor(named.layers, dtype=torch.float32), learned)
    picture = run.search.directory / "tuned/plots/gates.png"
    assert picture.read_bytes() != (run.search.directory / "plots/gates.png").read_bytes()
    (run.search.directory / "tuned/winner.json").unlink()  # as a process leaves it that was killed before
    picture.unlink()
    search(run)
    assert json.loads((run.search.directory / "tuned/winner.json").read_text()) == kept and picture.exists()
    # By the library alone: the soup of the learned gates, with the tuned tensors, merged into one plain model.
    method = build(run)
    method.load_state_dict({n: v for n, v in after.items() if n not in gates})
    plain = method.supernet.merge(Soup(tuple(tuple(row) for row in learned.tolist())))
    test = inputs.test_split(run)
    with torch.no_grad():
        hits = (plain.eval()(Preprocess(run)(test.images)).argmax(1) == test.labels).sum()
    assert record["test_accuracy"] == int(hits) / len(test.labels)
    assert record["form"] == "sandwich, by loss, soup, tuned 2 epochs, learned gates"


def test_the_average_of_the_weights_is_what_is_saved_and_searched(tmp_path, data_root):
    words = ["trainer.max_steps=1", "trainer.warmup_epochs=0", "optimizer.lr=0.02", "supernet.sampling=fair"]
    runs = [resolved(*SMALL, *words, *more, f"output_root={tmp_path}", f"data_root={data_root}")
            for more in ([], ["supernet.ema=0.75"])]  # fmt: skip
    for run in runs:
        train(run)
    last, averaged = (load_file(run.directory / "weights.safetensors") for run in runs)
    start = build(runs[1]).state_dict()
    assert averaged.keys() == last.keys()
    for name, average in averaged.items():
        torch.testing.assert_close(average, 0.75 * start[name] + 0.25 * last[name])
    assert any(not torch.equal(averaged[name], last[name]) for name in last)
    run = runs[1]
    search(run)
    method, val = build(run), selection_split(run)
    method.load_state_dict(averaged)
    winner = read_winner(method.space, run.search.directory)
    found = measure(method.evaluator().write(winner), [Preprocess(run)(val.images)], val.labels)
    best = json.loads((run.search.directory / "best.json").read_text())
    assert best["val_probability"] == pytest.approx(found.probability, abs=1e-6)
    assert evaluate(run)["form"] == "fair, EMA, by probability"


@pytest.mark.slow
def test_the_rate_that_a_grid_chose_tunes_the_winner_too(tmp_path, data_root):
    words = ["hparams=val_grid", "+method.grid.lr=[0.01,0.02]", "trainer.lr_factors=[]", "search.finetune_epochs=1"]
    run = resolved(*SMALL, *words, f"output_root={tmp_path}", f"data_root={data_root}")
    train(run)
    search(run)
    chosen = json.loads((run.directory / "grid.json").read_text())["chosen"]
    config = json.loads((run.search.directory / "tuned/config.json").read_text())
    assert config["tuned"]["lr"] == chosen["lr"] and config["tuned"]["epochs"] == 1
