"""How far classes stand apart, against counts by hand, and the panels of the picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from runner.report.plots_features import Panel, embed, plot_features, separation
from tests.helpers.figures import count, pixels


def clusters(gap: float, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Twenty points of each class around (gap, 0, 0), (0, gap, 0) and so on."""
    labels = torch.arange(classes).repeat_interleave(20)
    noise = torch.randn(len(labels), classes, generator=torch.Generator().manual_seed(0))
    return torch.eye(classes)[labels] * gap + noise, labels


def test_classes_that_stand_apart_are_found_by_their_neighbours_and_others_are_not() -> None:
    apart, mixed = separation(*clusters(50.0)), separation(*clusters(0.0))
    assert apart.knn == 1.0 and apart.silhouette is not None and apart.silhouette > 0.9
    assert mixed.knn < 0.6 and mixed.silhouette is not None and abs(mixed.silhouette) < 0.1
    assert str(apart).startswith("10-NN 100.0 %, silhouette 0.9")


def test_a_point_is_no_neighbour_of_its_own() -> None:
    values, labels = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 1, 0, 1])
    assert separation(values, labels).knn == 0.0  # two of the three others are of the other class
    alone = separation(values, torch.arange(4))
    assert alone.knn == 0.0 and alone.silhouette is None and str(alone) == "10-NN 0.0 %"


def test_the_same_features_give_the_same_picture_and_a_class_the_same_colour_in_both_panels(tmp_path: Path) -> None:
    values, labels = clusters(20.0)
    assert torch.equal(embed(values), embed(values))
    panels = [Panel("one", values, labels), Panel("other", values[:40], labels[:40])]
    path = plot_features(panels, tmp_path / "x.png")
    image = pixels(path)
    left, right = image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]
    assert count(left, "#1f77b4") > 50 < count(right, "#1f77b4")
    text = path.with_suffix(".svg").read_text()
    assert all(f">{word}<" in text for word in ("one", "other", "class", "2"))


@pytest.mark.parametrize("classes", [15, 30])
def test_many_classes_have_colours_and_a_legend_as_long_as_it_can_be_read(tmp_path: Path, classes: int) -> None:
    path = plot_features([Panel("x", *clusters(5.0, classes))], tmp_path / "x.png")
    assert (">class<" in path.with_suffix(".svg").read_text()) == (classes <= 20)
