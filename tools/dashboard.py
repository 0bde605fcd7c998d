"""The dashboard of a project on Weights & Biases: results, curves, search, classes and errors, its runs by sweep.

    python -m tools.dashboard project=glora-vtab entity=TEAM [name=GLoRA]

It is a saved view of the project's workspace, made anew by each call, of the metrics that run.py sends with
`logger.wandb=online`, or `wandb sync` of offline runs. Needs a key, as `wandb login` keeps it, and the extra `wandb`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from data import DataError
from runner.attempt import ending
from runner.config.errors import ConfigError
from runner.config.overrides import quoted, values_of
from runner.tracking.outcomes import Outcome

if TYPE_CHECKING:
    from wandb_workspaces import workspaces

DEFAULTS: Mapping[str, str | None] = {"project": None, "entity": None, "name": "GLoRA"}
TRAININGS = {"train": "training", "train800val200": "training on all 1000 images", "retrained": "the winner, trained "
             "anew", "tuned": "the winner, tuned", "scratch": "the winner, from its initialization"}  # fmt: skip
"""The stages whose metrics are of epochs, as `runner.tracking.of_run.stages` names them, and their titles."""


def dashboard(project: str, entity: str, name: str) -> workspaces.Workspace:
    """The view, not saved yet."""
    import wandb_workspaces.reports.v2 as wr
    from wandb_workspaces import workspaces as ws

    def curve(stage: str, title: str, metric: str) -> wr.LinePlot:
        plot = wr.LinePlot(title=title, x=f"{stage}/epoch", title_x="epoch", range_x=(0, None))
        if metric.endswith("/"):  # a supernet's accuracies are those of its fixed subnets
            plot.metric_regex = f"{stage}/{metric}.*"
        else:
            plot.y = [f"{stage}/{metric}"]
        return plot

    def chart(table: str, kind: str, fields: Mapping[str, str], title: str) -> wr.CustomChart:
        return wr.CustomChart(query={"summaryTable": {"tableKey": table}}, chart_name=f"wandb/{kind}",
                              chart_fields=dict(fields), chart_strings={"title": title})  # fmt: skip

    measures = {"loss": "loss", "val/": "validation accuracy", "lr": "learning rate"}
    curves = [curve(s, f"{title}: {what}", m) for s, title in TRAININGS.items() for m, what in measures.items()]
    test, params = wr.SummaryMetric("test_accuracy"), wr.SummaryMetric("params")
    confused = {key: key for key in ("Actual", "Predicted", "nPredictions")}
    sections: dict[str, list[Any]] = {
        "Results": [
            wr.BarPlot(title="test accuracy", metrics=["test_accuracy"], groupby="JobType"),
            wr.ScatterPlot(title="test accuracy by parameters", x=params, y=test, log_x=True),
            wr.RunComparer(diff_only="split"),
        ],
        "Curves": curves,
        "Search": [
            wr.LinePlot(title="best candidate so far", x="search/generation", title_x="generation",
                        metric_regex="search/.*/best_accuracy"),
            chart("search/candidates_scatter_table", "scatter/v0", {"x": "params", "y": "val_accuracy"},
                  "candidates by parameters"),
            wr.WeavePanelSummaryTable(table_name="search/candidates"),
        ],
        "Classes": [
            wr.WeavePanelSummaryTable(table_name="test/classes"),
            chart("test/confusion_table", "confusion_matrix/v1", confused, "confusion matrix on test"),
            wr.MediaBrowser(title="confusion matrix of many classes", media_keys=["test/confusion"]),
        ],
        "Errors": [wr.MediaBrowser(title="the most wrong test images", media_keys=["test/examples"], num_columns=4)],
    }  # fmt: skip
    made = [ws.Section(name=title, panels=panels, is_open=True) for title, panels in sections.items()]
    by_sweep = ws.RunsetSettings(groupby=[ws.Metric("Group"), ws.Metric("JobType")])
    return ws.Workspace(entity=entity, project=project, name=name, sections=made, runset_settings=by_sweep)


def command(args: list[str]) -> None:
    """Save the dashboard that the arguments name, and say where it is."""
    try:
        typed = values_of([quoted(arg) for arg in args])
    except DataError as error:
        raise ConfigError(str(error)) from error
    problems = [f"{key}= is not one of {', '.join(DEFAULTS)}" for key in typed if key not in DEFAULTS]
    values = {key: str(typed.get(key) or default or "") for key, default in DEFAULTS.items()}
    problems += [f"name the {key}, as in {key}={word}" for key, word in (("project", "glora-vtab"), ("entity", "TEAM"))
                 if not values[key]]  # fmt: skip
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        import wandb_workspaces  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError("wandb-workspaces is not installed: pip install -e '.[wandb]'") from error
    view = dashboard(**values)
    try:
        print(f"saved: {view.save().url}")
    except Exception as error:  # what wandb raises for a refusal is of several kinds, some of them bare
        raise ConfigError(f"W&B took no dashboard for {values['entity']}/{values['project']}: {error}; the project "
                          "must exist, and a key with access to it (wandb login)") from error  # fmt: skip


if __name__ == "__main__":
    came: list[Outcome] = []
    with ending(came):
        command(sys.argv[1:])
    sys.exit(max((outcome.status for outcome in came), default=0))
