"""Mistral: a sliding window and none, heads wider than their share, and both spellings of its rope settings."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of a checkpoint of the bare model, its rotary buffers stored with it."""
    named = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    buffers = {f"layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
    return named | buffers


VARIANTS = [
    # Mistral 7B v0.1: a window, which the prompt of the continuation exceeds too.
    Variant("window", 21, {"sliding_window": 7}, shards=2),
    # Nemo: heads of 12 where hidden / heads is 8, no window; the newest spelling.
    Variant(
        "head-dim",
        72,
        {
            "head_dim": 12,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
            "dtype": "bfloat16",
        },
        omits=("rope_theta", "torch_dtype"),
        dtype=torch.bfloat16,
    ),
    # What is absent has the defaults of the first release: 8 key-value heads, theta 10000, a window of 4096.
    Variant(
        "defaults",
        23,
        {"num_attention_heads": 8, "hidden_size": 48, "head_dim": 8, "torch_dtype": "float16"},
        omits=("num_key_value_heads", "sliding_window", "rope_theta", "rms_norm_eps", "hidden_act", "tie_word_embeddings"),
        dtype=torch.float16,
    ),
    # Every head its own keys, the head tied, the names of the bare model.
    Variant("bare-tied", 24, {"num_key_value_heads": 4, "tie_word_embeddings": True, "head_dim": None}, stored=bare),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; weights large enough for attention and logits to vary."""
    return 1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise


FAMILY = Family("mistral", CONFIG, MistralConfig, MistralForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
