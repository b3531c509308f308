"""Gemma 2: a window shorter than the sequence on every other layer, soft caps that bite, its own score scale."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import Gemma2Config, Gemma2ForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "torch_dtype": "float32",
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 24,
    "sliding_window": 9,
    "attn_logit_softcapping": 5.0,
    "final_logit_softcapping": 6.0,
    "rope_theta": 10000.0,
}

VARIANTS = [
    Variant("alternating", 53),
    Variant(
        "layer-types",
        52,
        {
            "layer_types": ["full_attention", "sliding_attention"],
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 20000.0},
            "dtype": "float16",
        },
        omits=("torch_dtype", "rope_theta"),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains are stored as their distance from 1; small embeddings, which are scaled, leave the blocks a say."""
    return 0.3 * noise if "norm" in name else (0.08 if "embed" in name else 0.4) * noise


FAMILY = Family(
    "gemma2", CONFIG, Gemma2Config, Gemma2ForCausalLM, lambda model: model.model.layers, fill
)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
