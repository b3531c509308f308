"""Falcon in its three builds, and the norms and spellings between them.

Computed with Transformers' default attention: its eager one adds ALiBi to the mask and then to the scores again.
"""


from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import FalconConfig, FalconForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["FalconForCausalLM"],
    "model_type": "falcon",
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "layer_norm_epsilon": 1e-5,
    "alibi": False,
    "bias": False,
    "multi_query": True,
    "new_decoder_architecture": False,
    "parallel_attn": True,
    "bos_token_id": 11,
    "eos_token_id": 11,
    "torch_dtype": "bfloat16",
}


def with_buffers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rotary frequencies and the tied head, as old checkpoints store them."""
    buffers = {f"transformer.h.{i}.self_attention.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
    return tensors | buffers | {"lm_head.weight": tensors["transformer.word_embeddings.weight"].clone()}


VARIANTS = [
    # 7B: one key-value head, attention and feed-forward side by side.
    Variant("multi-query", 81, dtype=torch.bfloat16, stored=with_buffers),
    # 40B and 180B: groups of queries, two norms.
    Variant("grouped", 51, {"new_decoder_architecture": True, "num_kv_heads": 2}, dtype=torch.bfloat16),
    # 11B: the new architecture with one norm, an untied head, wider feed-forward.
    Variant(
        "one-norm",
        50,
        {
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "tie_word_embeddings": False,
            "ffn_hidden_size": 80,
            "rope_theta": 500042.0,
        },
        dtype=torch.bfloat16,
    ),
    # RW-1B: ALiBi, one half after the other, biases, as many key-value heads as heads. Of twelve heads, whose slopes are
    # not all powers of two, so that their rounding to bfloat16 can be seen.
    Variant(
        "alibi",
        50,
        {
            "alibi": True,
            "bias": True,
            "multi_query": False,
            "parallel_attn": False,
            "hidden_size": 48,
            "num_attention_heads": 12,
        },
        dtype=torch.bfloat16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1, biases that matter."""
    gain = name.endswith(".weight") and ("layernorm" in name or ".ln_" in name)
    return 1 + 0.3 * noise if gain else 0.25 * noise


FAMILY = Family(
    "falcon", CONFIG, FalconConfig, FalconForCausalLM, lambda model: model.transformer.h, fill, attention="sdpa"
)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
