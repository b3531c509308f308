"""Qwen3: every head of queries and keys normed, heads of a size of their own, tied heads, windows and biases."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "max_window_layers": 1,
    "attention_bias": False,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "rope_scaling": None,
    "sliding_window": 16,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of the embedding models' checkpoints."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


VARIANTS = [
    # There is a window in its config, which nothing uses.
    Variant("untied", 41, shards=2, dtype=torch.float16),
    Variant("tied", 42, {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}, dtype=torch.bfloat16, stored=bare),
    # The newest spelling; a window in the upper layer, biases, heads of 12.
    Variant(
        "window-biases",
        43,
        {
            "attention_bias": True,
            "head_dim": 12,
            "num_key_value_heads": None,
            "use_sliding_window": True,
            "sliding_window": 7,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "dtype": "float32",
        },
        omits=("rope_theta", "rope_scaling", "torch_dtype"),
        dtype=torch.float16,
    ),
    # Heads of 128 because the key is absent, theta 10000 because the key is.
    Variant(
        "defaults",
        44,
        {"num_attention_heads": 1, "num_key_value_heads": 1},
        omits=("head_dim", "rope_theta", "rope_scaling", "attention_bias", "sliding_window", "tie_word_embeddings"),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1, those of queries and keys large enough for attention to be uneven."""
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 1.2 + 0.4 * noise
    return 1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise


FAMILY = Family("qwen3", CONFIG, Qwen3Config, Qwen3ForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
