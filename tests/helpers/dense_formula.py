"""Equation 10 once more, dense and entry by entry."""

import torch

D_IN, D_OUT, RANK = 10, 14, 8


def dense_forward(w0, b0, t, config, x):
    """Equation 10 entry by entry: every support tensor written out as a full matrix or vector."""

    def matrix(down, up, option):
        if option.kind == "lora":
            return torch.einsum("ik,kj->ij", down[:, : option.rank], up[: option.rank, :])
        full = torch.ones(D_OUT, D_IN, dtype=torch.double)
        if option.kind == "vector":
            return torch.einsum("i,ij->ij", down[:, 0], full)
        return full * down[0, 0] if option.kind == "scalar" else full * 0

    def vector(v, option):
        ones = torch.ones(D_OUT, dtype=torch.double)
        return {"vector": lambda: v * ones, "scalar": lambda: v[0] * ones, "none": lambda: 0 * ones}[option.kind]()

    a, b = matrix(t["Ad"], t["Au"], config.A), matrix(t["Bd"], t["Bu"], config.B)
    if config.C.kind == "lora":
        c = (t["Cd"][:, : config.C.rank] @ t["Cu"][: config.C.rank]).reshape(-1)
    else:
        c = t["Cd"][:, 0] if config.C.kind == "vector" else torch.zeros(D_IN, dtype=torch.double)
    out = x @ (w0 + w0 * a + b).T + w0 @ c + vector(t["E"], config.E)
    if b0 is not None:
        out = out + vector(t["D"], config.D) * b0 + b0
    return out
