"""What is one row of a table and what it is called: seeds and tasks of one recipe, rates apart where compared."""

from runner.report.rows import row_names, without_repeats
from runner.report.tables import build_table
from tests.helpers.records import record, row


def lora(rate, words="", **changes):
    """A result of LoRA at this rate, trained by these words."""
    return record(method="lora", label="LoRA", lr=rate, overrides=["dataset=digits", "method=lora", *words.split()],
                  **changes)  # fmt: skip


def names(records):
    return [cells[0] for cells in build_table(records).rows]


def test_a_repeated_seed_is_not_two_seeds():
    table = build_table([record(test=0.5), record(test=0.7)])
    assert (row(table)["Digits (UCI)"], row(table)["Seeds"]) == ("70.0", "1")
    assert "several differing results" in table.notes[0]
    assert build_table([record(), record()]).notes == []


def test_hparams_are_kept_apart_and_a_missing_test_is_no_zero():
    table = build_table([record(), record(hparams="per_task", test=None)])
    assert [r[0] for r in table.rows] == ["GLoRA-8-4 (hparams global)", "GLoRA-8-4 (hparams per_task)"]
    assert table.rows[1][1] == "-"
    assert table.rows[1][table.header.index("Seeds")] == "-"


def test_recipes_and_searches_of_one_method_are_rows_of_their_own_and_named():
    short, long = (
        record(test=0.5, recipe="aaaa0000", trainer="mini"),
        record(test=0.9, recipe="bbbb1111", trainer="paper"),
    )
    names = [cells[0] for cells in build_table([short, long]).rows]
    assert names == ["GLoRA-8-4 (mini aaaa0000)", "GLoRA-8-4 (paper bbbb1111)"]
    found = [record(test=0.5, search="evolution-a"), record(test=0.9, search="random-b")]
    assert [cells[0] for cells in build_table(found).rows] == ["GLoRA-8-4 (evolution-a)", "GLoRA-8-4 (random-b)"]
    assert [cells[0] for cells in build_table([short]).rows] == ["GLoRA-8-4"]


def test_rows_that_differ_in_their_epochs_alone_say_them():
    found = [record(test=0.5, recipe="aaaa0000", epochs=60), record(test=0.9, recipe="bbbb1111", epochs=150)]
    assert [r[0] for r in build_table(found).rows] == ["GLoRA-8-4 (60 epochs)", "GLoRA-8-4 (150 epochs)"]


def test_rates_of_one_task_and_seed_are_rows_and_the_own_rate_is_what_others_are_compared_with():
    low, high = "optimizer.lr=3e-3", "optimizer.lr=3e-2"
    found = [
        lora(0.003, low, test=0.6),
        lora(0.03, high, test=0.2),
        lora(0.01, test=0.8),
        lora(0.01, seed=1, test=0.9),
    ]
    table = build_table([*found, record(test=0.7, lr=0.005, overrides=["dataset=digits"])])
    assert [(r[0], r[1]) for r in table.rows] == [
        ("LoRA (optimizer.lr=3e-3)", "60.0"),
        ("LoRA (optimizer.lr=3e-2)", "20.0"),
        ("LoRA", "85.0 ± 7.1"),
        ("GLoRA-8-4", "70.0"),
    ]
    assert "vs LoRA" in table.header
    assert row(table, "LoRA (optimizer.lr=3e-3)")["vs LoRA"] == "-20.0"
    assert not any("several differing results" in note for note in table.notes)


def test_a_rate_typed_for_each_task_is_one_row():
    found = [lora(0.003, "optimizer.lr=3e-3"), lora(0.01, "optimizer.lr=1e-2") | {"dataset": "textures"}]
    assert names(found) == ["LoRA"]


def test_a_rate_typed_as_the_data_sets_is_a_rate_too():
    found = [lora(0.003, "dataset.lr=3e-3"), lora(0.01, "dataset.lr=1e-2")]
    kept = without_repeats(found, notes := [])
    assert len(kept) == 2 and not notes
    assert [*row_names(kept).values()] == ["LoRA (dataset.lr=3e-3)", "LoRA (dataset.lr=1e-2)"]


def test_images_that_were_augmented_otherwise_make_a_row_that_says_so():
    seeds = [record(augmentation="timm", class_subset="none", seed=seed) for seed in (0, 1)]
    assert names(seeds) == ["GLoRA-8-4"]
    plain = record(augmentation="none", class_subset="none")
    assert names([*seeds, plain]) == ["GLoRA-8-4 (dataset.augmentation=timm)", "GLoRA-8-4 (dataset.augmentation=none)"]
    longer = record(augmentation="none", class_subset="dataset", recipe="b", epochs=99)
    shorter = record(augmentation="none", class_subset="dataset", recipe="a", epochs=9)
    told = "dataset.augmentation=none, dataset.class_subset=dataset"
    assert names([seeds[0], longer, shorter])[1:] == [f"GLoRA-8-4 ({told}, {n} epochs)" for n in (99, 9)]


def test_rates_without_words_are_told_by_their_numbers():
    old = {k: v for k, v in lora(0.01).items() if k != "overrides"}
    assert names([old, lora(0.003, "optimizer.lr=3e-3")]) == ["LoRA", "LoRA (optimizer.lr=0.003)"]


def test_rows_of_one_label_are_told_by_the_words_that_all_their_runs_share_and_not_all_rows():
    plain = [lora(0.01, "trainer=mini", recipe="a", epochs=30, seed=seed) for seed in (0, 1)]
    decay = [
        lora(0.01, "trainer=mini optimizer.weight_decay=0.1 runtime.graph=fused", recipe="b", epochs=30),
        lora(0.01, "trainer=mini optimizer.weight_decay=0.1", recipe="b", epochs=30, seed=1),
    ]
    assert names([*plain, *decay]) == ["LoRA", "LoRA (optimizer.weight_decay=0.1)"]


def test_searches_are_told_by_their_words_and_by_their_directories_where_the_words_are_the_same():
    found = [
        record(test=0.5, search="evolution-a", overrides=["seed=0"]),
        record(test=0.9, search="evolution-b", overrides=["seed=0", "search.extremes=false"]),
    ]
    assert names(found) == ["GLoRA-8-4", "GLoRA-8-4 (search.extremes=false)"]
    same = [{**r, "overrides": ["seed=0"]} for r in found]
    assert names(same) == ["GLoRA-8-4 (evolution-a)", "GLoRA-8-4 (evolution-b)"]
