"""Search spaces without a model, and a fitness whose optimum is known."""

from glora import LayerSpec, SearchSpace
from glora.options import Option
from glora.space import Subnet


def vit_b_space(ranks):
    """The space of ViT-B."""
    widths = [("attn.qkv", 768, 2304), ("attn.proj", 768, 768), ("mlp.fc1", 768, 3072), ("mlp.fc2", 3072, 768)]
    return SearchSpace(tuple(LayerSpec(f"blocks.{b}.{n}", i, o) for b in range(12) for n, i, o in widths), ranks)


def small_space() -> SearchSpace:
    """Eight layers of 16 inputs and outputs."""
    return SearchSpace(tuple(LayerSpec(f"l{i}", 16, 16) for i in range(8)), (4, 2))


def vectors(subnet: Subnet) -> float:
    """The share of tensors that are vectors: 1 for one subnet alone."""
    genes = [o for c in subnet.layers for o in c]
    return sum(o == Option("vector") for o in genes) / len(genes)
