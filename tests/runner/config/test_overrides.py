"""The command line on its way through Hydra, in this process: what it stumbles over, and what depends on a sweep."""

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra

from runner import cli


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Runs the command line of train.py with a stage that only keeps its run: exit status, error lines, runs."""

    def call(*args):
        GlobalHydra.instance().clear()
        runs = []
        flags = [a for a in args if a.startswith("-")]
        words = [f"output_root={tmp_path}", *(a for a in args if not a.startswith("-"))]
        monkeypatch.setattr(sys, "argv", ["train.py", *flags, *words])
        try:
            cli.main(runs.append)
        except SystemExit as ending:
            return ending.code, capsys.readouterr().err.strip().splitlines(), runs
        return 0, capsys.readouterr().err.strip().splitlines(), runs

    yield call
    GlobalHydra.instance().clear()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search=50", "search=50 is no name of a search"),
        ("trainer=[[8]]", "trainer=[[8]] is a list, and one trainer is taken"),
        ("trainer=[mini,paper]", "sweep with -m trainer=<one>,<other>"),
        ("~protocol=-1", "protocol=-1 is no name of a protocol"),
        ("hydra=3", "hydra=3 is no name of a hydra"),
        ("hydra.run.dir=/proc/x", "/proc/x: No such file or directory (given: "),
        ("hydra.run.dir=/dev/null", "/dev/null: File exists (given: "),
        ("hydra.output_subdir=/proc/x", "/proc/x: No such file"),
        (f"seed={5000 * '9'}", "cannot be read (Exceeds the limit"),
        (f"seed={2000 * '['}{2000 * ']'}", "cannot be read (maximum recursion depth"),
        ("seed=${seed}", "Recursive interpolation"),
        ("output_root=${nope}", "Interpolation key 'nope' not found"),
    ],
)  # fmt: skip
def test_what_hydra_stumbles_over_is_one_line(train, override, message):
    status, errors, runs = train("dataset=digits", override)
    assert status == 2 and not runs
    assert len(errors) == 1 and message in errors[0] and len(errors[0]) < 1000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=range(0,1e300)", "a sweep of 1e+300 jobs is more than 10,000"),
        ("seed=range(0,3,0)", "a sweep of inf jobs"),
        ("seed=range(0,nan)", "the config cannot be composed"),
        ("search=50,mini", "the config cannot be composed"),
    ],
)
def test_a_sweep_that_cannot_be_listed_is_one_line(train, override, message):
    status, errors, runs = train("-m", "dataset=digits", override)
    assert status == 2 and not runs
    assert len(errors) == 1 and message in errors[0]


def test_a_sweep_without_a_folder_is_one_line_and_the_list_of_its_jobs(train):
    status, errors, runs = train("-m", "dataset=digits,textures", "hydra.sweep.dir=/dev/null/x")
    assert status == 2 and not runs and "/dev/null/x: Not a directory" in errors[0]
    assert [line.partition(":")[0] for line in errors[2:]] == ["not started", "not started"]


@pytest.mark.parametrize("override", ["backbone.kwargs={img_size:32}", "+backbone.kwargs.img_size=32"])
def test_a_sweep_over_data_sets_takes_arguments_of_the_backbone_that_they_choose(train, override):
    status, errors, runs = train("-m", "dataset=digits,textures", override, "backbone.kwargs.init_values=0.1")
    assert status == 0 and not errors
    assert [run.task.id for run in runs] == ["digits", "textures"]
    for run in runs:
        kwargs = run.backbone.kwargs
        assert run.backbone.name == "vit_micro"
        assert (kwargs["img_size"], kwargs["init_values"], kwargs["depth"]) == (32, 0.1, 6)


def test_a_value_can_be_that_of_another_key(train):
    status, errors, runs = train("dataset=digits", "seed=${search.seed}")
    assert status == 0 and not errors and runs[0].seed == 1


def test_what_a_stage_raises_is_not_called_a_mistake_of_the_command_line(tmp_path, monkeypatch):
    from runner.config.overrides import composing

    def task():
        raise KeyError("a slip of our own")

    with pytest.raises(KeyError), composing(task, []):
        task()
