"""GLoRA on a language model through the library alone: adapt, train, search, merge a small LLaMA.

    python examples/llama.py        # about 15 seconds on one CPU core

The text is made here: after a token comes its successor under a secret permutation, nine times in ten. The model learns
one permutation whole, is frozen, and is adapted to another. LLaMA's linear layers have no bias, so the space is cut to
the tensors A and B: every subnet then merges into weights of LLaMA's own architecture.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from glora import EvolutionSearch, MergedEvaluator, Supernet

VOCABULARY, LENGTH, BATCH = 32, 24, 32


def build() -> LlamaForCausalLM:
    """A LLaMA of two blocks with random weights."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=LENGTH, use_cache=False)
    )  # fmt: skip


def text(permutation: int, sequences: int, seed: int) -> Tensor:
    """Token ids (sequences, LENGTH) of the language with that permutation."""
    successor = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(permutation))
    g = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(VOCABULARY, (sequences,), generator=g)]
    for _ in range(LENGTH - 1):
        noise = torch.randint(VOCABULARY, (sequences,), generator=g)
        tokens.append(torch.where(torch.rand(sequences, generator=g) < 0.9, successor[tokens[-1]], noise))
    return torch.stack(tokens, 1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor) -> None:
    """One step on next-token prediction; gradients stay zero, not absent, for tensors outside the drawn subnet."""
    optimizer.zero_grad(set_to_none=False)
    logits = model(tokens[:, :-1]).logits
    F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, tokens: Tensor) -> float:
    """Share of next tokens that are predicted."""
    return (model(tokens[:, :-1]).logits.argmax(-1) == tokens[:, 1:]).float().mean().item()


def main() -> None:
    """Pre-train on one language, adapt to another, search, merge, and load the result into an untouched LLaMA."""
    model = build()
    optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for number in range(200):
        step(model, optimizer, text(0, BATCH, number))
    val, test = text(1, 64, 10_001), text(1, 256, 10_002)
    print(f"first language {accuracy(model, text(0, 256, 10_000)):.1%}")
    print(f"second language before {accuracy(model, test):.1%}")

    supernet = Supernet(model, ranks=[8, 4], tensors="AB")  # every nn.Linear, the output layer included
    print(supernet.space.describe())
    optimizer = torch.optim.AdamW(supernet.trainable().values(), lr=1e-2)
    for number in range(300):
        supernet.sample(random.Random(number))
        step(model, optimizer, text(1, BATCH, 20_000 + number))

    evaluator = MergedEvaluator(supernet)
    search = EvolutionSearch(supernet.space, lambda s: accuracy(evaluator.write(s), val), generations=5, population=12,
                             parents=4, mutants=6, crossovers=6)  # fmt: skip
    while not search.done:
        search.step()
    best = search.best()
    print(f"winner: {best.accuracy:.1%} on validation with {best.params:,} of {supernet.stored_params():,} parameters")

    supernet.set(best.subnet)
    plain = build()
    plain.load_state_dict(supernet.merge().state_dict())  # strict: LLaMA's own names and shapes
    difference = (plain(test).logits - model(test).logits).abs().max().item()
    print(f"second language after {accuracy(plain, test):.1%}, merged against adapted logits {difference:.1e}")


if __name__ == "__main__":
    main()
