"""The adaptation methods: one file each, all with the verbs of `base.Method`; found by name in `METHODS`."""

from glora.attach import NotDefined
from glora.methods.base import Method, NotMergeable
from glora.methods.bitfit import BitFit
from glora.methods.fact import FacTTK, FacTTT
from glora.methods.full import Full
from glora.methods.glora import GLoRA
from glora.methods.linear import Linear
from glora.methods.lora import LoRA
from glora.methods.repadapter import RepAdapter
from glora.methods.ssf import SSF

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        Full,
        Linear,
        BitFit,
        LoRA,
        FacTTT,
        FacTTK,
        SSF,
        RepAdapter,
        GLoRA,
    )
}

__all__ = ["METHODS", "GLoRA", "Linear", "Method", "NotDefined", "NotMergeable"]
