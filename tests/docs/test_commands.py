"""Every command that the README, the pages and the guides show is one that the scripts take; the Python runs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from glora.methods import METHODS
from runner.config.overrides import CONFIGS, check_keys, known_keys, respelled
from runner.config.preparation import PrepareConf, read_preparations
from runner.config.resolve import resolve, typed_keys
from runner.config.schema import TrainConf
from runner.stages.export import export
from runner.stages.train import train
from runner.sweep.command import STATUS
from runner.sweep.conf import RunConf
from tests.helpers.composing import composed, jobs, resolved
from tests.helpers.documented import GUIDES, PAGES, Command, blocks, commands, titled
from tests.helpers.own_images import class_folders
from tests.helpers.small_runs import SMALL
from tests.helpers.vtab_raw import save

FLAGS = {STATUS, "-m", "--multirun", "--help", "|", "head"}


@pytest.fixture(scope="module")
def my(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the pages call /my: files that they show, and images. Methods among them go with it."""
    root = tmp_path_factory.mktemp("my")
    class_folders(root / "images", per_class=60)
    for page in GUIDES:
        for path, content in titled(page).items():
            target = root / path.removeprefix("/my/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
    kept = dict(METHODS)
    yield root
    METHODS.clear()
    METHODS.update(kept)


@functools.cache
def check(script: str, words: tuple[str, ...]) -> int:
    """Read a command as its script does, up to the run; returns the number of its jobs."""
    preparing = script == "prepare"
    keys: type = {"prepare": PrepareConf, "run": RunConf}.get(script, TrainConf)
    config = "prepare" if preparing else "train"
    typed = respelled([w for w in words if w not in FLAGS], getattr(keys, "spelled", {}))
    check_keys(typed, known_keys(keys, CONFIGS), getattr(keys, "renamed", {}))
    made = jobs(*typed, config=config, keys=keys)
    for job in made[:: max(1, len(made) - 1)]:  # the first and the last
        raw = composed(*job, config=config, keys=keys)
        if preparing:
            assert read_preparations(raw, typed_keys(job))
        elif raw.get("dataset") is None:
            assert script == "results", "names no task"
        else:
            resolve(raw, typed_keys(job))
    return len(made)


def checked(command: Command, my: Path) -> int:
    """The same, of scripts that read alike only once."""
    words = tuple(word.replace("/my", str(my)) for word in command.words)
    bare = not any(word.startswith(("dataset=", "sweep=")) for word in words)
    results = command.script in ("evaluate", "report") and bare  # of all that is finished
    own = command.script in ("prepare", "run")
    return check(command.script if own else "results" if results else "train", words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_ones_that_the_scripts_take(page: Path, my: Path) -> None:
    problems = []
    for command in commands(page):
        try:
            checked(command, my)
        except Exception as error:
            problems.append(f"{command}: {type(error).__name__}: {error}")
    assert not problems, "\n".join(problems)


def test_pages_show_commands(my: Path) -> None:
    shown = {page.name: len(list(commands(page))) for page in PAGES}
    assert all(shown[page.name] for page in GUIDES) and shown["README.md"] >= 8 and sum(shown.values()) >= 40
    (reproduce,) = (page for page in GUIDES if page.stem == "reproduce")
    table1 = [checked(c, my) for c in commands(reproduce) if "sweep=table1" in c.words]
    assert table1[0] == 19


def test_a_command_that_no_script_takes_is_found() -> None:
    for words in (("dataset=digits", "trainer.epoch=1"), ("dataset=digitz",), ("dataset=digits", "method=nope")):
        with pytest.raises(Exception, match="epoch|digitz|nope"):
            check("train", words)
    with pytest.raises(AssertionError, match="names no task"):
        check("train", ("trainer=mini",))


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Path:
    """A folder with export/, export_peft/ and image.png, of a small run of LoRA."""
    root = tmp_path_factory.mktemp("taken_home")
    words = [*SMALL, "method=lora", "trainer.max_steps=2", f"output_root={root}", f"data_root={data_root}"]
    run = resolved(*words)
    train(run)
    for form in ("merged", "peft"):
        folder = export(resolved(*words, f"export={form}"))
        folder.rename(root / folder.name)
    save(root / "image.png")
    return root


@pytest.mark.parametrize("page", [page for page in GUIDES if blocks(page, "python")], ids=lambda page: page.name)
def test_python_of_the_guides_runs(page: Path, exports: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exports)
    monkeypatch.delitem(METHODS, "norms", raising=False)  # the plugin of the commands
    space: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), space)
    if page.stem == "take_home":
        model, adapted = space["model"], space["adapted"]
        assert isinstance(model, nn.Module) and isinstance(adapted, nn.Module)
        head = adapted.get_submodule("base_model.model.head.modules_to_save.default")
        torch.testing.assert_close(head.state_dict(), model.get_submodule("head").state_dict())
        assert space["label"] in range(10)
    else:
        norms = METHODS["norms"](timm.create_model("vit_tiny_patch16_224", num_classes=3, depth=2))
        assert norms.params() == 5 * 192 and isinstance(norms.merge(), nn.Module)
