"""The dashboard is a view of what runs send, as the real wandb-workspaces writes it, and says what it lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from wandb_workspaces import workspaces

from runner.config.errors import ConfigError
from runner.tracking.of_run import SEARCH, stages, sweep_name
from tests.helpers.composing import resolved
from tests.helpers.small_runs import SMALL
from tools.dashboard import TRAININGS, command, dashboard


def written(view: workspaces.Workspace) -> Any:
    """The view as it goes to W&B."""
    return json.loads(view._to_model().model_dump_json(by_alias=True, exclude_none=True))


def values(node: Any, key: str) -> Iterator[Any]:
    """Whatever stands under a key, at any depth."""
    if isinstance(node, dict):
        yield from ([node[key]] if key in node else [])
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else []:
        yield from values(child, key)


def test_every_stage_has_its_curves_over_its_own_epochs() -> None:
    known = {name for words in ([], ["protocol=clean_1000"]) for name in stages(resolved(*SMALL, *words))}
    assert set(TRAININGS) | {SEARCH, "evaluate"} == known
    view = written(dashboard("glora-vtab", "team", "GLoRA"))
    axes = [axis for axis in values(view, "xAxis") if axis != "_step"]
    assert {axis for axis in axes if axis.endswith("/epoch")} == {f"{stage}/epoch" for stage in TRAININGS}
    assert "search/generation" in axes
    patterns = list(values(view, "metricRegex"))
    assert [p for p in patterns if re.fullmatch(p, "train/val/largest")]
    assert [p for p in patterns if re.fullmatch(p, "search/evolution/best_accuracy")]


def test_search_classes_and_errors_have_their_sections_and_runs_stand_by_sweep() -> None:
    view = written(dashboard("glora-vtab", "team", "GLoRA"))
    text = json.dumps(view)
    titles = [bank["name"] for bank in next(values(view, "panelBankConfig"))["sections"]]
    assert titles == ["Results", "Curves", "Search", "Classes", "Errors"]
    for shown in ("search/candidates_scatter_table", "search/candidates", "test/classes", "test/confusion_table",
                  "test/examples", "wandb/scatter/v0", "wandb/confusion_matrix/v1"):  # fmt: skip
        assert json.dumps(shown) in text or f'\\"{shown}\\"' in text, shown
    (grouped,) = [found for found in values(view, "grouping") if found]
    assert [key["name"] for key in grouped] == ["group", "jobType"]
    assert sweep_name(resolved(*SMALL, "seed=1")) == sweep_name(resolved(*SMALL, "method=linear"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["entity=me"], "name the project, as in project=glora-vtab"),
        (["project=x"], "name the entity, as in entity=TEAM"),
        (["project=x", "entity=me", "sections=1"], "sections= is not one of project, entity, name"),
    ],
)
def test_what_is_missing_or_unknown_is_said(args: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        command(args)


def test_the_saved_view_is_named_and_a_refusal_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = []

    def save(view: workspaces.Workspace) -> workspaces.Workspace:
        saved.append((view.entity, view.project, view.name))
        view._internal_name = "nw-abc-v"
        return view

    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(workspaces.Workspace, "save", save)
    monkeypatch.setattr(workspaces.Workspace, "url", property(lambda view: f"https://x/{view._internal_name}"))
    command(["project=glora-vtab", "entity=team"])
    assert saved == [("team", "glora-vtab", "GLoRA")] and capsys.readouterr().out == "saved: https://x/nw-abc-v\n"

    def refuse(view: workspaces.Workspace) -> workspaces.Workspace:
        raise ValueError("no such project")

    monkeypatch.setattr(workspaces.Workspace, "save", refuse)
    with pytest.raises(ConfigError, match="took no dashboard for team/x: no such project"):
        command(["project=x", "entity=team"])
