"""Search over subnets: evolution, NSGA-II and random search on one interface."""

from glora.search.base import SEARCHES, NoSubnet, Search
from glora.search.evolution import EvolutionSearch, RandomSearch
from glora.search.interface import Member, Space
from glora.search.nsga2 import NSGA2Search
from glora.search.pareto import hypervolume, pareto_front
from glora.search.selection import Candidate, Fitness, Measured, SelectionNoise, best_first, selection_noise
from glora.search.state import State, sealed

__all__ = [
    "SEARCHES",
    "Candidate",
    "EvolutionSearch",
    "Fitness",
    "Measured",
    "Member",
    "NSGA2Search",
    "NoSubnet",
    "RandomSearch",
    "Search",
    "SelectionNoise",
    "Space",
    "State",
    "best_first",
    "hypervolume",
    "pareto_front",
    "sealed",
    "selection_noise",
]
