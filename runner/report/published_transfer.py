"""Printed numbers beyond VTAB-1K: few-shot (Figure 2) and domain generalisation (Table 2), top-1 in percent.

The few-shot numbers behind the figure are those the authors gave in github.com/Arnav0400/ViT-Slim, issue 14.
"""

from __future__ import annotations

from runner.report.published import ARXIV

FEW_SHOT_SETS: dict[str, str] = {
    "food101": "Food101",
    "stanford_cars": "Cars",
    "oxford_flowers_fs": "Flowers102",
    "fgvc_aircraft": "Aircraft",
    "oxford_pets_fs": "Pets",
}
"""The five sets in the order of the columns below, with their titles."""

FEW_SHOT_SOURCE = f"{ARXIV}, Figure 2 (ViT-B/16, ImageNet-21k)"

# fmt: off
FEW_SHOT: dict[str, dict[int, tuple[float, ...]]] = {
    # method: shots: accuracy per set
    "GLoRA": {1: (36.0, 7.8, 88.7, 8.7, 72.6), 2: (54.8, 16.5, 97.4, 14.4, 77.3), 4: (65.1, 30.8, 99.1, 24.0, 89.1),
              8: (71.3, 55.0, 99.3, 38.0, 90.1), 16: (75.9, 74.3, 99.6, 54.1, 91.4)},
    "NOAH": {1: (31.8, 7.3, 88.1, 8.2, 69.7), 2: (51.6, 13.2, 96.9, 13.5, 78.1), 4: (63.8, 25.5, 98.1, 23.1, 84.9),
             8: (71.5, 46.2, 99.4, 34.0, 88.0), 16: (76.3, 68.6, 99.5, 49.1, 89.0)},
    "VPT": {1: (23.5, 5.5, 58.8, 6.4, 56.8), 2: (46.7, 9.6, 95.4, 11.2, 66.1), 4: (60.6, 20.7, 98.0, 19.0, 85.3),
            8: (67.8, 33.5, 99.2, 28.9, 88.6), 16: (72.6, 56.0, 99.4, 42.5, 89.6)},
    "LoRA": {1: (31.8, 6.7, 88.5, 9.0, 68.6), 2: (48.7, 13.5, 96.4, 13.5, 76.1), 4: (59.0, 26.4, 98.1, 22.1, 85.7),
             8: (66.4, 45.9, 99.1, 34.6, 87.3), 16: (72.5, 68.2, 99.6, 47.6, 88.7)},
    "Adapter": {1: (31.4, 7.5, 88.6, 9.1, 68.0), 2: (49.0, 13.4, 96.3, 13.3, 76.3), 4: (59.8, 23.7, 98.1, 21.1, 85.8),
                8: (66.8, 39.9, 99.2, 32.0, 88.2), 16: (71.7, 60.4, 99.5, 45.2, 89.1)},
}

TARGETS: dict[str, str] = {"imagenet_v2": "V2", "imagenet_sketch": "Sketch", "imagenet_a": "A", "imagenet_r": "R"}
"""The four target test sets of domain generalisation with their titles, in the paper's groups."""

DOMAIN_SOURCE = f"{ARXIV}, Table 2 (ViT-B/16, ImageNet-21k; ImageNet, 16 shots)"

DOMAIN: dict[str, tuple[float, ...]] = {
    # method: ImageNet, then the targets in the order above
    "Adapter": (70.5, 59.1, 16.4, 5.5, 22.1), "VPT": (70.5, 58.0, 18.3, 4.6, 23.2),
    "LoRA": (70.8, 59.3, 20.0, 6.9, 23.3), "NOAH": (71.5, 66.1, 24.8, 11.9, 28.5),
    "GLoRA-2": (78.3, 67.5, 30.6, 13.3, 31.0),
}
# fmt: on
