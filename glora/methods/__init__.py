"""The adaptation methods: one file each, all with the verbs of `base.Method`; found by name in `METHODS`."""

from glora.attach import NotDefined
from glora.methods.adapter import Adapter
from glora.methods.adapter_plus import AdapterPlus
from glora.methods.adaptformer import AdaptFormer
from glora.methods.base import Method, NotMergeable, Searched
from glora.methods.bitfit import BitFit
from glora.methods.fact import FacTTK, FacTTT
from glora.methods.full import Full
from glora.methods.glora import GLoRA
from glora.methods.linear import Linear
from glora.methods.lora import LoRA
from glora.methods.noah import NOAH
from glora.methods.repadapter import RepAdapter
from glora.methods.ssf import SSF
from glora.methods.superlora import SuperLoRA
from glora.methods.vpt_deep import VPTDeep
from glora.methods.vpt_shallow import VPTShallow

METHODS: dict[str, type[Method]] = {
    m.name: m
    for m in (
        Full,
        Linear,
        BitFit,
        VPTShallow,
        VPTDeep,
        Adapter,
        AdaptFormer,
        LoRA,
        NOAH,
        FacTTT,
        FacTTK,
        SSF,
        RepAdapter,
        AdapterPlus,
        SuperLoRA,
        GLoRA,
    )
}

__all__ = ["METHODS", "NOAH", "GLoRA", "Linear", "LoRA", "Method", "NotDefined", "NotMergeable", "Searched"]
