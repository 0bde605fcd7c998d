"""VPT-Deep (arXiv 2203.12119): a set of prompts per block; each block's replaces what became of the previous one's."""

from __future__ import annotations

from torch import nn

from glora.methods.prompts import VisualPrompts


class VPTDeep(VisualPrompts):
    """Prompts at the input of every block; the default count is the grid's nearest to Table 1's mean of 57.5."""

    name = "vpt_deep"
    label = "VPT-Deep"
    paper_rows = {"table1": ("vpt_deep",), "table5": ("vpt_deep",)}
    known_params = {"vit_b16": 460_800, "swin_b": 601_600}
    deep = True

    def __init__(self, model: nn.Module, prompts: int = 50, dropout: float = 0.0, vpt_head: bool = False) -> None:
        super().__init__(model, prompts, dropout, vpt_head)
