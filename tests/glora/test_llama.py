"""transformers' LLaMA under equation 10: what its merged weights load into, and its tied output layer."""

import random

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from glora import MergedEvaluator, Supernet
from glora.options import NONE

SIZES = {"vocab_size": 16, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 12, "use_cache": False}  # fmt: skip
TOKENS = torch.arange(24).reshape(2, 12) % 16


def llama(seed=0, **more):
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**SIZES, **more)).double().eval()


def filled(model, tensors):
    supernet = Supernet(model, [4, 2], head=model.lm_head, tensors=tensors)
    for parameter in supernet.trainable().values():
        nn.init.normal_(parameter, std=0.1)
    supernet.set(supernet.space.largest)
    return supernet


BIASED = {"attention_bias": True, "mlp_bias": True}


@pytest.mark.parametrize(("tensors", "config"), [("AB", {}), ("ABCE", BIASED)])
@pytest.mark.parametrize("tied", [False, True])
def test_merged_weights_load_into_an_untouched_llama(tensors, config, tied):
    """With C or E it is a LLaMA whose config has biases; they stay zero in layers that gain none."""
    model, rng = llama(tie_word_embeddings=tied), random.Random(0)
    before = model(TOKENS).logits
    supernet = filled(model, tensors)
    evaluator = MergedEvaluator(supernet)
    without: set[str] = set()
    assert len(supernet.layers) == 14
    for subnet in (supernet.space.largest, *(supernet.space.sample(rng) for _ in range(8))):
        supernet.set(subnet)
        adapted = model(TOKENS).logits
        assert (adapted - before).abs().max() > 0.1
        untouched = llama(seed=1, tie_word_embeddings=tied, **config)
        missing, unexpected = untouched.load_state_dict(supernet.merge().state_dict(), strict=False)
        none = {f"{n}.bias" for n, c in zip(supernet.layers, subnet.layers, strict=True) if c.C == c.E == NONE}
        assert not unexpected and set(missing) == (none if config else set())
        without |= none
        torch.testing.assert_close(untouched(TOKENS).logits, adapted, rtol=0, atol=1e-9)
        torch.testing.assert_close(evaluator.write(subnet)(TOKENS).logits, adapted, rtol=0, atol=1e-9)
    assert without  # such layers were drawn


def test_gained_biases_do_not_load_into_a_llama_without_them():
    merged = filled(llama(), "ABCE").merge()
    with pytest.raises(RuntimeError, match="q_proj.bias"):
        llama(seed=1).load_state_dict(merged.state_dict(), strict=True)


def test_a_tied_output_layer_is_refused_and_the_model_left_as_it_was():
    model = llama(tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"lm_head.weight and model.embed_tokens.weight are one tied tensor.*head="):
        Supernet(model, [4, 2], tensors="AB")
    assert all(p.requires_grad for p in model.parameters())
    supernet = Supernet(model, [4, 2], head=model.lm_head, tensors="AB")
    assert [n for n in supernet.trainable() if ".layers." not in n] == ["model.embed_tokens.weight"]
