"""VPT-Shallow (arXiv 2203.12119): one set of prompts, entering at the first block and carried through."""

from __future__ import annotations

from torch import nn

from glora.methods.prompts import VisualPrompts


class VPTShallow(VisualPrompts):
    """Prompts at the input of the first block; the default count is the grid's nearest to Table 1's mean of 82."""

    name = "vpt_shallow"
    label = "VPT-Shallow"
    paper_rows = {"table1": ("vpt_shallow",)}
    known_params = {"vit_b16": 76_800, "swin_b": 12_800}
    deep = False

    def __init__(self, model: nn.Module, prompts: int = 100, dropout: float = 0.0, vpt_head: bool = False) -> None:
        super().__init__(model, prompts, dropout, vpt_head)
