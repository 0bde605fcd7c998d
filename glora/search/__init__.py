"""Search over subnets: evolution and random search on one interface."""

from glora.search.base import Candidate, Search, best_first
from glora.search.evolution import EvolutionSearch, RandomSearch

__all__ = ["Candidate", "EvolutionSearch", "RandomSearch", "Search", "best_first"]
