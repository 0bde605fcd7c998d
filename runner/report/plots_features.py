"""Features of test images in two dimensions, a panel for each run, coloured by class: the paper's Figure 5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from runner.report.figure import new_figure, save

NEIGHBOURS = 10
SEED = 0
"""Of t-SNE and the principal components that it starts from."""
LISTED = 20
"""Up to so many classes each has a colour of its own and an entry in the legend."""


@dataclass(frozen=True)
class Separation:
    """How well classes stand apart in the features themselves, not in the picture.

    `knn` is the share of images whose class most of their `NEIGHBOURS` nearest others have; `silhouette`, from -1 to 1,
    is None where classes have one image each.
    """

    knn: float
    silhouette: float | None

    def __str__(self) -> str:
        shown = "" if self.silhouette is None else f", silhouette {self.silhouette:.2f}"
        return f"{NEIGHBOURS}-NN {100 * self.knn:.1f} %{shown}"


@dataclass(frozen=True)
class Panel:
    """What is drawn of a run: a title, features (N, width) and labels (N,)."""

    title: str
    values: Tensor
    labels: Tensor


def separation(values: Tensor, labels: Tensor) -> Separation:
    """How far the classes of features (N, width) with labels (N,) stand apart, by Euclidean distances."""
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import KNeighborsClassifier

    x, y = values.numpy(), labels.numpy()
    nearest = KNeighborsClassifier(min(NEIGHBOURS, len(y) - 1)).fit(x, y)
    classes = len(set(y.tolist()))
    silhouette = float(silhouette_score(x, y)) if 1 < classes < len(y) else None
    return Separation(float((nearest.predict(None) == y).mean()), silhouette)  # None: of the others alone


def embed(values: Tensor) -> Tensor:
    """t-SNE of (N, width) features from their principal components, (N, 2): the same for the same features."""
    import torch
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(values) - 1) / 3)
    found = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(values.numpy())
    return torch.from_numpy(found)


def plot_features(panels: Sequence[Panel], path: Path | str) -> Path:
    """t-SNE of each panel beside the others. Colours stand for the same labels in all of them."""
    from matplotlib import colormaps

    classes = sorted({int(k) for panel in panels for k in panel.labels})
    few = len(classes) <= LISTED
    palette = colormaps["tab10" if len(classes) <= 10 else "tab20" if few else "turbo"]
    colour = {k: palette(i if few else i / (len(classes) - 1)) for i, k in enumerate(classes)}
    figure = new_figure(4.4 * len(panels), 4.6)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        points = embed(panel.values)
        for k in classes:
            x, y = points[panel.labels == k].T
            axes.scatter(x, y, s=9, color=[colour[k]], linewidths=0, label=str(k))
        axes.set_title(panel.title, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    if few:
        figure.legend(*axes.get_legend_handles_labels(), title="class", loc="outside lower center", ncols=10,
                      fontsize=8, title_fontsize=8, frameon=False, markerscale=2)  # fmt: skip
    return save(figure, path)
