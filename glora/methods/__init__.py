"""The adaptation methods: one file each, all with the verbs of `base.Method`; found by name in `METHODS`."""

import importlib
import pkgutil

from glora.attach import NotDefined
from glora.methods.base import GROUPS, METHODS, Method, NotMergeable, Searched

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def ordered_methods() -> list[type[Method]]:
    """Every method, by group and then by name: the order of sweeps."""
    return sorted(METHODS.values(), key=lambda m: (GROUPS.index(m.group), m.name))


__all__ = ["GROUPS", "METHODS", "Method", "NotDefined", "NotMergeable", "Searched", "ordered_methods"]
