"""The matrix product of equation 10 with the cheapest exact gradients of each option.

Forward forms W = W0 * (1 + A) + B once, in float32 or wider: d1*d2 elementwise work, small beside the product with
thousands of tokens. Backward forms it again instead of keeping it, and computes the dense weight gradient g^T x only
where A has a LoRA, whose gradient needs it; every other option has a closed form over activations. Both matrices live
only within one layer's turn, so all layers form them in the same memory, which stays in the processor's caches.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

CHUNK = 1 << 18
"""Elements of a temporary that stays in a core's cache."""

Forward = Callable[[Tensor], Tensor]
"""Model input (B, ...) to logits (B, classes)."""

NEAR_ZERO = 0.1
"""Below this |1 + a| the gradient of a row factor is not divided out of the output; W0 takes part instead."""


def effective_weight(
    weight: Tensor,
    a_down: Tensor | None,
    a_up: Tensor | None,
    b_down: Tensor | None,
    b_up: Tensor | None,
    out: Tensor | None = None,
) -> Tensor:
    """W = W0 * (1 + A) + B of shape (d2, d1).

    Args:
        weight: W0, (d2, d1).
        a_down, a_up: A as a product of (d2, k) and (k, d1); without `a_up`, `a_down` itself, (d2, 1) or (1, 1),
            broadcast. None: A is none.
        b_down, b_up: the same for B.
        out: a (d2, d1) tensor to form W in, without another of this size and without gradients. Where A and B are
            none it is not touched, and W0 itself is returned.
    """
    if a_down is not None:
        if a_up is None:
            if b_down is not None and b_up is None:
                return torch.addcmul(b_down, weight, 1 + a_down, out=out)
            weight = torch.mul(weight, 1 + a_down, out=out)
        else:
            weight = torch.addcmul(weight, weight, torch.mm(a_down, a_up, out=out), out=out)
    if b_down is not None:
        if b_up is None:
            weight = torch.add(weight, b_down, out=out)
        else:
            weight = torch.addmm(weight.to(b_down.dtype), b_down, b_up, out=out)
    return weight


class _Scratch(threading.local):
    """Memory for matrices of a layer's size, reused by every layer that a thread computes.

    A fresh matrix of some megabytes costs more in page faults than in the arithmetic that fills it.
    """

    def __init__(self) -> None:
        self._flat: dict[tuple[str, torch.device, torch.dtype], Tensor] = {}

    def like(self, weight: Tensor, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """A matrix of the shape and device of `weight`, valid until the next call with this name."""
        key = name, weight.device, dtype or weight.dtype
        flat = self._flat.get(key)
        if flat is None or flat.numel() < weight.numel():
            with torch.inference_mode(False):  # what is made there could not be written to in training later
                flat = self._flat[key] = torch.empty(weight.numel(), device=key[1], dtype=key[2])
        return flat[: weight.numel()].view(weight.shape)


_scratch = _Scratch()


def _formed(
    weight: Tensor,
    a_down: Tensor | None,
    a_up: Tensor | None,
    b_down: Tensor | None,
    b_up: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """`effective_weight` in `dtype`, formed in float32 or wider; in scratch memory, or W0 itself."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    formed = effective_weight(weight, a_down, a_up, b_down, b_up, out=_scratch.like(weight, "W", wide))
    return formed if formed.dtype == dtype else _scratch.like(weight, "W", dtype).copy_(formed)


def column_dots(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over rows of one * other and of one, both (T, d), to (d,); on a CPU in one pass and no (T, d) temporary."""
    rows = max(1, CHUNK // one.shape[1] if one.device.type == "cpu" else len(one))
    wide = torch.promote_types(one.dtype, torch.float32)
    dots, sums = one.new_zeros(2, one.shape[1], dtype=wide)
    for start in range(0, len(one), rows):
        part = one[start : start + rows]
        dots += (part * other[start : start + rows]).sum(0, dtype=wide)
        sums += part.sum(0, dtype=wide)
    return dots, sums


def apply_in_autocast_dtype(function: type[torch.autograd.Function], x: Tensor, *others: Any) -> Tensor:
    """`function.apply(x, *others)`; under autocast x comes in its dtype, and what is inside chooses its own."""
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
        with torch.autocast(device, enabled=False):
            inside: Tensor = function.apply(x, *others)
            return inside
    made: Tensor = function.apply(x, *others)
    return made


def in_precision(model: nn.Module, precision: torch.dtype) -> Forward:
    """A function that calls the model with its matrix products in `precision` (autocast).

    Autocast begins inside, so that a compiler may be handed the function: one that is on around the call of a compiled
    model also holds for the backward pass that is compiled with it, down to the gradients of how weights are formed.
    """

    def call(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, precision, enabled=precision != torch.float32):
            logits: Tensor = model(x)
        return logits

    return call


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        a_down: Tensor | None,
        a_up: Tensor | None,
        b_down: Tensor | None,
        b_up: Tensor | None,
    ) -> Tensor:
        y = F.linear(
            x, _formed(weight, a_down, a_up, b_down, b_up, x.dtype), None if bias is None else bias.to(x.dtype)
        )
        # A row factor's gradient is read off the output, which the next layer mostly keeps anyway.
        keep = y if a_down is not None and a_up is None else None
        ctx.save_for_backward(x, weight, bias, a_down, a_up, b_down, b_up, keep)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, a_down, a_up, b_down, b_up, y = ctx.saved_tensors
        wide = torch.promote_types(grad.dtype, torch.float32)
        g, rows = grad.reshape(-1, grad.shape[-1]), x.reshape(-1, x.shape[-1])
        dx = db = da_down = da_up = db_down = db_up = None
        if ctx.needs_input_grad[0]:
            dx = grad @ _formed(weight, a_down, a_up, b_down, b_up, grad.dtype)
        dots = None
        if a_down is not None and a_up is None and float((1 + a_down).abs().min()) >= NEAR_ZERO:
            dots, db = column_dots(g, y.reshape(g.shape))
        elif bias is not None:
            db = g.sum(0, dtype=wide)
        if a_up is not None:
            dense = torch.mm(g.t(), rows, out=_scratch.like(weight, "g^T x", g.dtype))
            if dense.dtype != wide:
                dense = _scratch.like(weight, "g^T x", wide).copy_(dense)
            if b_down is not None:
                db_down, db_up = _factor_gradients(dense, b_down, b_up)
            da_down, da_up = _factor_gradients(dense.mul_(weight), a_down, a_up)
        else:
            if b_up is not None:
                # These orders of factors read g and x along their rows; the transposed ones take four times as long.
                down, up = b_down.to(g.dtype), b_up.to(g.dtype)
                db_down = (F.linear(rows, up).t() @ g).t().to(wide)
                db_up = (F.linear(g, down.t().contiguous()).t() @ rows).to(wide)
            elif b_down is not None:
                db_down = (rows.sum(1) @ g).to(wide).unsqueeze(1)
            if a_down is not None:
                if dots is None:
                    da_down = ((g.t() @ rows).to(weight.dtype) * weight).sum(1, keepdim=True)
                else:
                    da_down = _row_factor_gradient(dots, a_down, bias, db, b_down, db_down)
                da_down = da_down.sum_to_size(a_down.shape)
            if db_down is not None:
                db_down = db_down.sum_to_size(b_down.shape)
        return dx, None, None if bias is None else db, da_down, da_up, db_down, db_up


def _factor_gradients(dense: Tensor, down: Tensor, up: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Gradients of down and up from that of the (d2, d1) matrix they make."""
    if up is None:
        return dense.sum_to_size(down.shape), None
    return dense @ up.t(), down.t() @ dense


def _row_factor_gradient(
    dots: Tensor, a: Tensor, bias: Tensor | None, bias_grad: Tensor | None, b_down: Tensor | None, b_grad: Tensor | None
) -> Tensor:
    """Gradient of A = a (vector or scalar) per output row, (d2, 1): sum_t g * (x W0^T).

    y = (1 + a) * (x W0^T) + B x + b, so the sum is that of g * y, `dots`, less the parts of B and b, divided by 1 + a;
    the parts follow from gradients that are there already. Near 1 + a = 0 the caller has to take another way.
    """
    if bias is not None and bias_grad is not None:
        dots = dots - bias * bias_grad
    if b_down is not None and b_grad is not None:
        dots = dots - (b_down * b_grad).sum(1)
    return (dots / (1 + a).squeeze(1)).unsqueeze(1)


def product(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    a_down: Tensor | None,
    a_up: Tensor | None,
    b_down: Tensor | None,
    b_up: Tensor | None,
) -> Tensor:
    """x W^T + b for tokens x (..., d1), with W of `effective_weight` and a bias (d2,) or None.

    `weight` is frozen; gradients flow to everything else. Under autocast the product runs in its dtype.
    """
    return apply_in_autocast_dtype(_Product, x, weight, bias, a_down, a_up, b_down, b_up)
