"""Search over subnets: evolution, NSGA-II and random search on one interface."""

from glora.search.base import SEARCHES, Candidate, Search, best_first
from glora.search.evolution import EvolutionSearch, RandomSearch
from glora.search.interface import Member, Space
from glora.search.nsga2 import NSGA2Search
from glora.search.pareto import hypervolume, pareto_front

__all__ = [
    "SEARCHES",
    "Candidate",
    "EvolutionSearch",
    "Member",
    "NSGA2Search",
    "RandomSearch",
    "Search",
    "Space",
    "best_first",
    "hypervolume",
    "pareto_front",
]
