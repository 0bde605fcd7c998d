"""GLoRA (arXiv 2306.07967) as a library: adapt any `nn.Module`, train a supernet, search it, merge the winner."""

from glora.conv import GLoRAConv2d
from glora.evaluator import MergedEvaluator
from glora.linear import GLoRALinear
from glora.options import LayerConfig, Option
from glora.search import EvolutionSearch, Measured, NSGA2Search, RandomSearch
from glora.soup import Soup
from glora.space import LayerSpec, SearchSpace, Subnet
from glora.supernet import Supernet

__all__ = [
    "EvolutionSearch",
    "GLoRAConv2d",
    "GLoRALinear",
    "LayerConfig",
    "LayerSpec",
    "Measured",
    "MergedEvaluator",
    "NSGA2Search",
    "Option",
    "RandomSearch",
    "SearchSpace",
    "Soup",
    "Subnet",
    "Supernet",
]
