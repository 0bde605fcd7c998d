"""The choice of one layer as data: equation 10 with a vector of gates, the same operations for every configuration.

With m a mask over rank columns and v, s being 0 or 1 for "vector" and "scalar":

    W = W0 * (1 + vA Ad[:, 0] + sA Ad[0, 0] + (Ad mA) Au) + (Bd mB) Bu + vB Bd[:, 0] + sB Bd[0, 0]
    b = b0 * (1 + vD D + sD D[0]) + vE E + sE E[0] + W0 ((Cd mC) Cu + vC Cd[:, 0])

Nothing depends on the choice but the numbers in the gates, so a compiled model and a CUDA graph serve all subnets.
Tensors outside the choice get gradients that are exactly zero. The price is a dense weight gradient in every layer.

W and b are affine in the gates: no product holds two of them. So averaged gates give the averaged W and b, and gates
between 0 and 1 have a meaning, a soup's (`glora.soup`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glora.options import LayerConfig, Option

FLAGS = tuple((t, k) for t in "ABCDE" for k in ("vector", "scalar") if (t, k) != ("C", "scalar"))
"""The 0 or 1 of each tensor's "vector" and "scalar", in the order of the row: vA, sA, vB, sB, vC, vD, sD, vE, sE."""


Row = tuple[float, ...]
"""The gates of one layer as numbers: masks of A, B and C over the ranks, then `FLAGS`."""

Choice = LayerConfig | Row
"""What a layer computes: one option for each tensor, or any gates."""


def gates_length(max_rank: int) -> int:
    """Numbers per layer: one mask over the ranks for each of A, B and C, and `FLAGS`."""
    return 3 * max_rank + len(FLAGS)


def row_rank(row: Row) -> int:
    """The ranks that a row has masks over, the inverse of `gates_length`."""
    return (len(row) - len(FLAGS)) // 3


def gate_row(choice: Choice, max_rank: int) -> Row:
    """The gates of one layer's configuration: masks of A, B and C, then `FLAGS`; those of a row are itself."""
    if isinstance(choice, tuple):
        return choice

    def mask(option: Option) -> list[float]:
        return [float(k < option.rank) for k in range(max_rank)]

    chosen = dict(zip("ABCDE", choice, strict=True))
    flags = [float(chosen[tensor].kind == kind) for tensor, kind in FLAGS]
    return (*mask(choice.A), *mask(choice.B), *mask(choice.C), *flags)


def gives_bias(choice: Choice) -> bool:
    """Whether C or E take part, so that a layer without a bias gains one."""
    if isinstance(choice, tuple):
        rank = row_rank(choice)
        flags = zip(FLAGS, choice[3 * rank :], strict=True)
        return any(choice[2 * rank : 3 * rank]) or any(gate for (tensor, _), gate in flags if tensor in "CE")
    return choice.C.kind != "none" or choice.E.kind != "none"


def gated_weight(weight: Tensor, a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], gates: Tensor) -> Tensor:
    """W of shape (d2, d1) from W0 and the stored (down, up) of A and B, in the support tensors' precision."""
    rank = a[0].shape[1]
    masks, flags = gates[: 3 * rank].view(3, rank), gates[3 * rank :]
    (a_down, a_up), (b_down, b_up) = a, b
    scale = 1 + flags[0] * a_down[:, :1] + flags[1] * a_down[:1, :1]
    shift = flags[2] * b_down[:, :1] + flags[3] * b_down[:1, :1]
    return weight * (scale + (a_down * masks[0]) @ a_up) + ((b_down * masks[1]) @ b_up + shift)


def gated_bias(
    weight: Tensor, bias: Tensor | None, c: tuple[Tensor, Tensor], d: Tensor | None, e: Tensor, gates: Tensor
) -> Tensor:
    """b of shape (d2,) from W0, b0 and the stored tensors of C, D and E; `d` is None where there is no b0."""
    down, up = c
    rank = down.shape[1]
    mask, flags = gates[2 * rank : 3 * rank], gates[3 * rank :]
    prompt = (down * mask) @ up[:, 0] + flags[4] * down[:, 0]
    total = weight.to(down.dtype) @ prompt + flags[7] * e + flags[8] * e[:1]
    if bias is not None and d is not None:
        total = total + bias * (1 + flags[5] * d + flags[6] * d[:1])
    return total


def gate_table(choices: Sequence[Choice], max_rank: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(len(choices), `gates_length`) of `dtype` on the CPU."""
    return torch.tensor([gate_row(choice, max_rank) for choice in choices], dtype=dtype)
