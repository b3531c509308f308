"""Phi-3: fused products, a window, part of each head turned, and longrope within and beyond the original context.

Beyond the original context the long divisors hold for all positions, so that keys cached before carry others:
Transformers computes the cache anew when a continuation gets there.
"""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import Phi3Config, Phi3ForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "original_max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}
DIVISORS = {"short_factor": [1.0, 1.05, 1.2, 1.9], "long_factor": [1.3, 2.4, 5.5, 9.25]}
ORIGINAL = {"original_max_position_embeddings": 64}

VARIANTS = [
    Variant("fused", 51, shards=2, dtype=torch.float16),
    # Keys for pairs of heads; what is absent has its default: theta, the original context, no window.
    Variant(
        "gqa-tied",
        52,
        {"num_key_value_heads": 2, "tie_word_embeddings": True, "torch_dtype": "bfloat16"},
        omits=("rope_theta", "original_max_position_embeddings", "sliding_window", "rope_scaling", "rms_norm_eps"),
        dtype=torch.bfloat16,
    ),
    Variant("window", 53, {"sliding_window": 7}, dtype=torch.float16),
    # Within the original context: the short divisors, and the scale of the whole context. The first spelling.
    Variant(
        "longrope-short",
        54,
        {"original_max_position_embeddings": 64, "rope_scaling": {"type": "su", **DIVISORS, **ORIGINAL}},
        dtype=torch.float16,
    ),
    # Phi-4-mini: part of each head. The sequence and its continuation grow beyond the original context.
    Variant(
        "longrope-long",
        55,
        {
            "hidden_size": 48,
            "num_attention_heads": 3,
            "num_key_value_heads": 1,
            "partial_rotary_factor": 0.5,
            "original_max_position_embeddings": 32,
            "rope_scaling": {"type": "longrope", **DIVISORS},
        },
        dtype=torch.float16,
    ),
    # The newest spelling, with a scale of its own.
    Variant(
        "longrope-parameters",
        56,
        {
            "original_max_position_embeddings": 40,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 20000.0,
                "partial_rotary_factor": 1.0,
                "original_max_position_embeddings": 40,
                "attention_factor": 1.4,
                **DIVISORS,
            },
            "dtype": "float32",
        },
        omits=("rope_theta", "rope_scaling", "torch_dtype"),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; weights large enough for attention and logits to vary."""
    return 1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise


FAMILY = Family("phi3", CONFIG, Phi3Config, Phi3ForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
