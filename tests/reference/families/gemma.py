"""Gemma: heads of 16 where hidden / heads is 8, one key-value head or as many as heads, both activation spellings."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import GemmaConfig, GemmaForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["GemmaForCausalLM"],
    "model_type": "gemma",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "torch_dtype": "float32",
    "hidden_act": "gelu",
    "rope_theta": 10000.0,
}

VARIANTS = [
    # Gemma 7B: as many key-value heads as heads; the first checkpoints' activation, the head tied because the key is absent.
    Variant("legacy", 41),
    # Gemma 2B: one key-value head.
    Variant(
        "multi-query",
        42,
        {"num_key_value_heads": 1, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": None, "torch_dtype": "bfloat16"},
        dtype=torch.bfloat16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains are stored as their distance from 1; small embeddings, which are scaled, leave the blocks a say."""
    return 0.3 * noise if "norm" in name else (0.12 if "embed" in name else 0.4) * noise


FAMILY = Family(
    "gemma", CONFIG, GemmaConfig, GemmaForCausalLM, lambda model: model.model.layers, fill
)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
