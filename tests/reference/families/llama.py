"""Llama: attention kinds, biases, and every rope setting in both spellings.

`rope-dynamic` has frequencies that depend on the length of the sequence so far: keys cached at an earlier length carry
others, and the golden continuation is the one computed without a cache, each step over the whole sequence.
"""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}

VARIANTS = [
    # The oldest spelling: no rope_theta, and as many key-value heads as heads because the key is absent.
    Variant("mha", 1, {"rms_norm_eps": 1e-6}, omits=("num_key_value_heads",), tokens=64, shards=2),
    Variant(
        "gqa-tied",
        2,
        {
            "num_hidden_layers": 3,
            "tie_word_embeddings": True,
            "rope_theta": 500000.0,
            "rope_scaling": None,
            "torch_dtype": "bfloat16",
        },
        dtype=torch.bfloat16,
    ),
    Variant(
        "biases",
        13,
        {
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "dtype": "float16",
        },
        omits=("torch_dtype",),
        dtype=torch.float16,
    ),
    # Heads of 20 where hidden / heads is 12, and a single key-value head.
    Variant("head-dim", 4, {"hidden_size": 48, "head_dim": 20, "num_key_value_heads": 1, "rope_theta": 10000.0}),
    Variant("rope-linear", 5, {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    Variant(
        "rope-dynamic",
        6,
        {
            "max_position_embeddings": 32,
            "rope_theta": 10000.0,
            "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
        },
        tokens=80,
        cached_greedy=False,
    ),
    Variant(
        "rope-llama3",
        7,
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 1024,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        },
        tokens=96,
    ),
    Variant(
        "rope-parameters",
        8,
        {
            "rope_parameters": {"rope_theta": 50000.0, "rope_type": "linear", "factor": 2.0},
            "dtype": "float32",
        },
        omits=("torch_dtype",),
    ),
]



def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; weights and biases large enough for attention and logits to vary."""
    return 1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise


FAMILY = Family("llama", CONFIG, LlamaConfig, LlamaForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
