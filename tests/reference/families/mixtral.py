"""Mixtral: two of two, of four and of eight experts, one of three, windows, and heads wider than their share.

Transformers holds the experts of a layer in two tensors and stores them one by one, under the hub's names.
"""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import MixtralConfig, MixtralForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "output_router_logits": False,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "router_aux_loss_coef": 0.02,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}

VARIANTS = [
    # Two models merged: every token passes through both.
    Variant("2-of-2", 60, {"num_local_experts": 2}, dtype=torch.float16),
    Variant("2-of-4", 61, shards=2, dtype=torch.float16),
    # What is absent has its default: eight experts and two of them, eight key-value heads, theta a million.
    Variant(
        "2-of-8",
        112,
        {"num_attention_heads": 8, "intermediate_size": 16, "torch_dtype": "bfloat16"},
        omits=(
            "num_local_experts",
            "num_experts_per_tok",
            "num_key_value_heads",
            "rope_theta",
            "rms_norm_eps",
            "sliding_window",
        ),
        dtype=torch.bfloat16,
    ),
    # The share of a lone expert is 1.
    Variant("one-of-3", 63, {"num_local_experts": 3, "num_experts_per_tok": 1}, dtype=torch.float16),
    # The newest spelling.
    Variant(
        "window-head-dim",
        64,
        {
            "head_dim": 12,
            "num_key_value_heads": 1,
            "sliding_window": 7,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "dtype": "float16",
        },
        omits=("rope_theta", "torch_dtype"),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; weights large enough for attention, routing and logits to vary."""
    if name.endswith("gate.weight"):
        return 0.4 * noise
    return 1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise


FAMILY = Family("mixtral", CONFIG, MixtralConfig, MixtralForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
