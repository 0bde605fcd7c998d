"""Numbers printed in the GLoRA paper (arXiv 2306.07967), kept as literals so that tables need no file at run time.

Top-1 accuracy in percent with the one decimal of the paper, trainable parameters in millions.
"""

from __future__ import annotations

from typing import NamedTuple

ARXIV = "arXiv 2306.07967"

VTAB_ORDER: tuple[str, ...] = (
    "cifar100", "caltech101", "dtd", "flowers102", "pets", "svhn", "sun397",
    "camelyon", "eurosat", "resisc45", "retinopathy",
    "clevr_count", "clevr_dist", "dmlab", "kitti_dist", "dspr_loc", "dspr_ori", "snorb_azim", "snorb_ele",
)  # fmt: skip
"""Columns of Table 1: 7 natural, 4 specialized and 8 structured tasks."""


class PublishedRow(NamedTuple):
    """One printed row. `tasks`: percent by task id, empty where the paper prints group means only.

    `params_m` keeps the printed text ("0.10" and "0.1" claim different precision); None: not printed.
    """

    method: str
    params_m: str | None
    tasks: dict[str, float]
    natural: float
    specialized: float
    structured: float
    average: float


PRINTED_AS = {"FacT-TK": "FacT", "VPT-Deep": "VPT", "GLoRA-8-4": "GLoRA"}
"""Labels of methods that the paper prints by another name, where it has no row of theirs."""


class PublishedTable(NamedTuple):
    """A table of the paper: where it stands, the backbone it is about, and its rows."""

    source: str
    backbone: str
    rows: tuple[PublishedRow, ...]
    group_means_printed: bool  # False: computed here from the printed tasks

    def of(self, label: str) -> PublishedRow | None:
        """The row of the method with this label, if there is one."""
        rows = {row.method: row for row in self.rows}
        return rows.get(label) or rows.get(PRINTED_AS.get(label, label))


# fmt: off
_TABLE1: dict[str, tuple[str, float, tuple[float, ...]]] = {
    # method: (parameters in millions, printed average of the three group means, the 19 tasks in VTAB_ORDER)
    "Full": ("85.8", 68.9, (68.9, 87.7, 64.3, 97.2, 86.9, 87.4, 38.8, 79.7, 95.7, 84.2, 73.9,
        56.3, 58.6, 41.7, 65.5, 57.5, 46.7, 25.7, 29.1)),
    "Linear": ("0", 57.6, (64.4, 85.0, 63.2, 97.0, 86.3, 36.6, 51.0, 78.5, 87.5, 68.5, 74.0,
        34.3, 30.6, 33.2, 55.4, 12.5, 20.0, 9.6, 19.2)),
    "BitFit": ("0.10", 65.2, (72.8, 87.0, 59.2, 97.5, 85.3, 59.9, 51.4, 78.7, 91.6, 72.9, 69.8,
        61.5, 55.6, 32.4, 55.9, 66.6, 40.0, 15.7, 25.1)),
    "VPT-Shallow": ("0.06", 67.8, (77.7, 86.9, 62.6, 97.5, 87.3, 74.5, 51.2, 78.2, 92.0, 75.6, 72.9,
        50.5, 58.6, 40.5, 67.1, 68.7, 36.1, 20.2, 34.1)),
    "VPT-Deep": ("0.53", 72.0, (78.8, 90.8, 65.8, 98.0, 88.3, 78.1, 49.6, 81.8, 96.1, 83.4, 68.4,
        68.5, 60.0, 46.5, 72.8, 73.6, 47.9, 32.9, 37.8)),
    "Adapter": ("0.16", 73.9, (69.2, 90.1, 68.0, 98.8, 89.9, 82.8, 54.3, 84.0, 94.9, 81.9, 75.5,
        80.9, 65.3, 48.6, 78.3, 74.8, 48.5, 29.9, 41.6)),
    "AdaptFormer": ("0.16", 74.7, (70.8, 91.2, 70.5, 99.1, 90.9, 86.6, 54.8, 83.0, 95.8, 84.4, 76.3,
        81.9, 64.3, 49.3, 80.3, 76.3, 45.7, 31.7, 41.1)),
    "LoRA": ("0.29", 74.5, (67.1, 91.4, 69.4, 98.8, 90.4, 85.3, 54.0, 84.9, 95.3, 84.4, 73.6,
        82.9, 69.2, 49.8, 78.5, 75.7, 47.1, 31.0, 44.0)),
    "NOAH": ("0.36", 75.5, (69.6, 92.7, 70.2, 99.1, 90.4, 86.1, 53.7, 84.4, 95.4, 83.9, 75.8,
        82.8, 68.9, 49.9, 81.7, 81.8, 48.3, 32.8, 44.2)),
    "FacT": ("0.07", 75.6, (70.6, 90.6, 70.8, 99.1, 90.7, 88.6, 54.1, 84.8, 96.2, 84.5, 75.7,
        82.6, 68.2, 49.8, 80.7, 80.8, 47.4, 33.2, 43.0)),
    "SSF": ("0.24", 75.7, (69.0, 92.6, 75.1, 99.4, 91.8, 90.2, 52.9, 87.4, 95.9, 87.4, 75.5,
        75.9, 62.3, 53.3, 80.6, 77.3, 54.9, 29.5, 37.9)),
    "RepAdapter": ("0.22", 76.1, (72.4, 91.6, 71.0, 99.2, 91.4, 90.7, 55.1, 85.3, 95.9, 84.6, 75.9,
        82.3, 68.0, 50.4, 79.9, 80.4, 49.2, 38.6, 41.0)),
    "GLoRA-8-4": ("0.86", 78.0, (76.4, 92.9, 74.6, 99.6, 92.5, 91.5, 57.8, 87.3, 96.8, 88.0, 76.0,
        83.1, 67.3, 54.5, 86.2, 83.8, 52.9, 37.0, 41.4)),
    "GLoRA-4-2": ("0.44", 77.6, (76.5, 92.3, 75.2, 99.6, 92.3, 91.2, 57.5, 87.3, 96.7, 88.1, 76.1,
        80.6, 67.2, 53.4, 84.5, 83.5, 52.8, 35.2, 40.8)),
    "GLoRA-2": ("0.29", 77.3, (76.1, 92.7, 75.3, 99.6, 92.4, 90.5, 57.2, 87.5, 96.7, 88.1, 76.1,
        81.0, 66.2, 52.4, 84.9, 81.8, 53.3, 33.3, 39.8)),
}

_TABLE5: dict[str, tuple[float, float, float, float]] = {
    # method: (natural, specialized, structured, average)
    "Full": (79.2, 86.2, 59.7, 75.0),
    "Linear": (73.5, 80.8, 33.5, 62.6),
    "BitFit": (74.2, 80.1, 42.4, 65.6),
    "VPT": (76.8, 84.5, 53.4, 71.6),
    "FacT": (82.7, 87.5, 62.0, 77.4),
    "RepAdapter": (83.1, 86.9, 62.1, 77.4),
    "GLoRA": (83.7, 88.7, 61.9, 78.1),
}
# fmt: on


def _table1_row(method: str, params_m: str, average: float, tasks: tuple[float, ...]) -> PublishedRow:
    natural, specialized, structured = (sum(g) / len(g) for g in (tasks[:7], tasks[7:11], tasks[11:]))
    named = dict(zip(VTAB_ORDER, tasks, strict=True))
    return PublishedRow(method, params_m, named, natural, specialized, structured, average)


TABLE1 = PublishedTable(
    f"{ARXIV}, Table 1",
    "ViT-B/16, ImageNet-21k",
    tuple(_table1_row(method, *values) for method, values in _TABLE1.items()),
    group_means_printed=False,
)
TABLE5 = PublishedTable(
    f"{ARXIV}, Table 5",
    "Swin-B, ImageNet-21k",
    tuple(PublishedRow(method, None, {}, *values) for method, values in _TABLE5.items()),
    group_means_printed=True,
)

PAPER_TABLES = {"vit_b16": TABLE1, "swin_b": TABLE5}
"""The paper's VTAB-1K tables by backbone family."""
