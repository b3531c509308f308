"""Gemma 3, text: norms on queries and keys, two rotary bases, two layers in three seeing a window shorter than the sequence."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import Gemma3TextConfig, Gemma3ForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "torch_dtype": "float32",
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 16,
    "sliding_window": 9,
    "sliding_window_pattern": 3,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
}

VARIANTS = [
    # The spelling of the first checkpoints, with linear scaling of the layers that do not slide.
    Variant("pattern", 53, {"rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    Variant(
        "layer-types",
        51,
        {
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 50000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
            },
            "dtype": "bfloat16",
        },
        omits=("torch_dtype", "rope_theta", "rope_local_base_freq", "sliding_window_pattern"),
        dtype=torch.bfloat16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains are stored as their distance from 1; small embeddings, which are scaled, leave the blocks a say."""
    return 0.3 * noise if "norm" in name else (0.08 if "embed" in name else 0.4) * noise


FAMILY = Family(
    "gemma3_text", CONFIG, Gemma3TextConfig, Gemma3ForCausalLM, lambda model: model.model.layers, fill
)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
