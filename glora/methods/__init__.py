"""The adaptation methods: one file each, all with the verbs of `base.Method`; found by name in `METHODS`."""

from glora.methods.base import Method
from glora.methods.glora import GLoRA
from glora.methods.linear import Linear

METHODS: dict[str, type[Method]] = {m.name: m for m in (GLoRA, Linear)}

__all__ = ["METHODS", "GLoRA", "Linear", "Method"]
