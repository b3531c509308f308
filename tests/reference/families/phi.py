"""Phi: parts of a head that are turned, grouped keys, norms of queries and keys, and a head with a bias."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import PhiConfig, PhiForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["PhiForCausalLM"],
    "model_type": "phi",
    "vocab_size": 80,
    "hidden_size": 40,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-5,
    "partial_rotary_factor": 0.4,
    "qk_layernorm": False,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float16",
}


VARIANTS = [
    Variant("phi-2", 1, dtype=torch.float16),
    # Nothing said of the turned part, which is half.
    Variant(
        "phi-1",
        3,
        {"hidden_size": 32, "num_key_value_heads": None},
        omits=("partial_rotary_factor", "qk_layernorm", "rope_theta", "rope_scaling", "tie_word_embeddings"),
        dtype=torch.float16,
    ),
    Variant(
        "qk-layernorm",
        6,
        {
            "hidden_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "partial_rotary_factor": 0.5,
            "qk_layernorm": True,
            "layer_norm_eps": 1e-3,
            "hidden_act": "gelu",
        },
        dtype=torch.float16,
    ),
    Variant(
        "rope-parameters-tied",
        7,
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.8},
            "tie_word_embeddings": True,
            "dtype": "bfloat16",
        },
        omits=("torch_dtype", "partial_rotary_factor", "rope_theta", "rope_scaling", "num_key_value_heads"),
        dtype=torch.bfloat16,
        stored=lambda tensors: {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()},
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; embeddings, weights and biases large enough for attention and logits to vary."""
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return (0.2 if "embed" in name else 0.25) * noise


FAMILY = Family("phi", CONFIG, PhiConfig, PhiForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
