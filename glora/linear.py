"""Equation 10 for one linear layer: storage, exact forward, and merge.

Paper: GLoRA, arXiv 2306.07967, equation 10, appendix E for the shapes. With W0 of shape (d2, d1), `*` elementwise
with broadcasting:

    W = W0 * (1 + A) + B          b = b0 * (1 + D) + E + W0 c          y = W x + b

One set of tensors is stored at the largest rank; a smaller rank uses the leading columns and rows, "vector" is the
first column, "scalar" the first entry (weight entanglement).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glora.gates import Choice, gate_table, gated_bias, gated_weight, gives_bias
from glora.options import NONE, LayerConfig, Option
from glora.product import effective_weight, product

IDENTITY = LayerConfig()


class GLoRALinear(nn.Module):
    """A frozen `nn.Linear` with the support tensors A to E.

    Args:
        base: the linear layer to adapt. Its tensors are kept as they are and frozen.
        max_rank: the largest rank of the search space (columns stored for A, B and C).

    `config` says which option each tensor takes, or holds a soup's row of gates (`glora.gates.Row`), which
    `use_gates` makes the layer compute; it starts as none everywhere, the pre-trained function. All "down"
    tensors, D and E start at zero and all "up" tensors at Xavier-uniform, so every configuration starts there too.
    """

    def __init__(self, base: nn.Linear, max_rank: int) -> None:
        super().__init__()
        d_out, d_in = base.weight.shape
        self.in_features, self.out_features, self.max_rank = d_in, d_out, max_rank
        self.weight = nn.Parameter(base.weight.detach(), requires_grad=False)
        self.bias = None if base.bias is None else nn.Parameter(base.bias.detach(), requires_grad=False)
        device, dtype = base.weight.device, torch.promote_types(base.weight.dtype, torch.float32)

        def zeros(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))

        self.Ad, self.Au = zeros(d_out, max_rank), zeros(max_rank, d_in)
        self.Bd, self.Bu = zeros(d_out, max_rank), zeros(max_rank, d_in)
        self.Cd, self.Cu = zeros(d_in, max_rank), zeros(max_rank, 1)
        # D multiplies the bias: a layer without one would store a tensor that can never have an effect.
        self.D = zeros(d_out) if base.bias is not None else None
        self.E = zeros(d_out)
        for up in (self.Au, self.Bu, self.Cu):
            nn.init.xavier_uniform_(up)
        self.config: Choice = IDENTITY
        self.gates: Tensor | None = None  # those of a static graph or of a soup; then they stand for `config`

    def adapter_parameters(self) -> dict[str, nn.Parameter]:
        """The trainable tensors by name, Ad, Au, Bd, Bu, Cd, Cu, D (only with a bias), E; none that `keep` emptied."""
        named = {n: getattr(self, n) for n in ("Ad", "Au", "Bd", "Bu", "Cd", "Cu", "D", "E")}
        return {n: p for n, p in named.items() if p is not None and p.numel()}

    def keep(self, config: LayerConfig) -> None:
        """Store no more than `config` uses, as new parameters with the values of now: what it does not use is empty.

        Of A, B and C the leading columns and rows stay, one column for "vector"; of "scalar" the first entry.
        """

        def cut(name: str, *sizes: int | None) -> None:
            old: nn.Parameter = getattr(self, name)
            kept = old.detach()[tuple(slice(size) for size in sizes)].clone()
            setattr(self, name, nn.Parameter(kept, requires_grad=old.requires_grad and kept.numel() > 0))

        for tensor, option in (("A", config.A), ("B", config.B), ("C", config.C)):
            rows = 1 if option.kind == "scalar" else None
            cut(f"{tensor}d", rows, option.rank or int(option != NONE))
            cut(f"{tensor}u", option.rank)
        for tensor, option in (("D", config.D), ("E", config.E)):
            if getattr(self, tensor) is not None:
                cut(tensor, {"none": 0, "scalar": 1}.get(option.kind))
        self.config = config
        self.use_gates(None)

    def use_gates(self, gates: Tensor | None) -> None:
        """Compute with these gates, (`gates_length`,), instead of `config`; a parameter trains. None: by `config`."""
        del self.gates  # a parameter there would refuse to be replaced by a tensor
        self.gates = gates

    def gate_tensor(self, choice: Choice) -> Tensor:
        """The gates of a choice, in the support tensors' precision and on their device."""
        return gate_table([choice], self.max_rank, self.Ad.dtype)[0].to(self.Ad.device)

    def _factors(self, down: Tensor, up: Tensor, option: Option) -> tuple[Tensor | None, Tensor | None]:
        """A or B as factors (d2, k) and (k, d1), as one broadcast factor (d2, 1) or (1, 1), or as nothing."""
        if option.kind == "lora":
            return down[:, : option.rank], up[: option.rank]
        if option.kind == "none":
            return None, None
        return (down[:, :1] if option.kind == "vector" else down[:1, :1]), None

    def _weight_factors(self, config: LayerConfig) -> tuple[Tensor | None, ...]:
        """The factors of A, then those of B."""
        return *self._factors(self.Ad, self.Au, config.A), *self._factors(self.Bd, self.Bu, config.B)

    def _prompt(self, option: Option) -> Tensor:
        """C as a vector of length d1."""
        if option.kind == "lora":
            return self.Cd[:, : option.rank] @ self.Cu[: option.rank, 0]
        return self.Cd[:, 0]

    def _gated_weight(self, gates: Tensor) -> Tensor:
        return gated_weight(self.weight, (self.Ad, self.Au), (self.Bd, self.Bu), gates)

    def _gated_bias(self, gates: Tensor) -> Tensor:
        return gated_bias(self.weight, self.bias, (self.Cd, self.Cu), self.D, self.E, gates)

    def merged_bias(self, config: Choice) -> Tensor | None:
        """The bias b of equation 10, shape (d2,), or None where neither the base nor C, D, E give one."""
        if isinstance(config, tuple):
            return self._gated_bias(self.gate_tensor(config)) if self.bias is not None or gives_bias(config) else None
        bias: Tensor | None = self.bias
        if bias is not None and self.D is not None and config.D != NONE:
            bias = bias * (1 + (self.D if config.D.kind == "vector" else self.D[0]))
        if config.E != NONE:
            shift = self.E if config.E.kind == "vector" else self.E[:1].expand(self.out_features)
            bias = shift if bias is None else bias + shift
        if config.C != NONE:
            pushed = self.weight.to(self.Cd.dtype) @ self._prompt(config.C)
            bias = pushed if bias is None else bias + pushed
        return bias

    def merged_weight(self, config: Choice) -> Tensor:
        """The weight W of equation 10, shape (d2, d1), formed in float32 or wider."""
        if isinstance(config, tuple):
            return self._gated_weight(self.gate_tensor(config))
        return effective_weight(self.weight, *self._weight_factors(config))

    @torch.no_grad()
    def write_weight(self, config: Choice, out: Tensor) -> None:
        """Write W of equation 10 into `out`, (d2, d1).

        Nothing of that size is allocated for options if `out` is float32; a row of gates forms its W first.
        """
        if isinstance(config, tuple):
            out.copy_(self.merged_weight(config))
            return
        wide = out.dtype == torch.promote_types(self.weight.dtype, torch.float32)
        a_down, a_up, b_down, b_up = self._weight_factors(config)
        weight = effective_weight(self.weight, a_down, a_up, b_down, b_up, out if wide else None)
        if weight is not out:
            out.copy_(weight)

    def effective(self) -> tuple[Tensor, Tensor | None]:
        """W and b of the current choice, from the gates where there are any; in float32 or wider under autocast too."""
        with torch.autocast(self.weight.device.type, enabled=False):
            if self.gates is None:
                return self.merged_weight(self.config), self.merged_bias(self.config)
            return self._gated_weight(self.gates), self._gated_bias(self.gates)

    def forward(self, x: Tensor) -> Tensor:
        """(..., d1) to (..., d2) under `self.config`, or under `self.gates` where there are any."""
        if self.gates is not None or torch.compiler.is_compiling():
            # A compiler derives gradients itself: those of `product` branch on values, in memory that layers share.
            weight, bias = self.effective()
            return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))
        config = self.config
        assert isinstance(config, LayerConfig)  # `use_gates` goes with a row
        with torch.autocast(x.device.type, enabled=False):
            bias = self.merged_bias(config)
        return product(x, self.weight, bias, *self._weight_factors(config))

    @torch.no_grad()
    def merge(self, config: Choice | None = None) -> nn.Linear | nn.Conv2d:
        """A new plain `nn.Linear` that computes the same function; it has a bias only if equation 10 gives one."""
        config = self.config if config is None else config
        weight, bias = self.merged_weight(config), self.merged_bias(config)
        plain = nn.Linear(
            self.in_features,
            self.out_features,
            bias=bias is not None,
            device=self.weight.device,
            dtype=self.weight.dtype,
        )
        plain.weight.copy_(weight)
        if bias is not None:
            plain.bias.copy_(bias)
        return plain

    def extra_repr(self) -> str:
        """Shapes and the current configuration, for `print(model)`."""
        config = self.config
        if isinstance(config, tuple):
            shown = "gates of a soup"
        else:
            shown = ", ".join(f"{t}={o}" for t, o in zip("ABCDE", config, strict=True))
        return f"{self.in_features}, {self.out_features}, max_rank={self.max_rank}, {shown}"
