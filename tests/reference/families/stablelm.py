"""StableLM: both residuals, biases, norms of single heads, and every spelling of the turned part of a head."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import StableLmConfig, StableLmForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["StableLmForCausalLM"],
    "model_type": "stablelm",
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-5,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000,
    "tie_word_embeddings": False,
    "use_qkv_bias": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "bfloat16",
}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder saved without its prefix, and the frequencies that were once stored."""
    buffers = {f"layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(2) for layer in range(2)}
    return {**{name.removeprefix("model."): tensor for name, tensor in tensors.items()}, **buffers}


VARIANTS = [
    Variant("3b-4e1t", 1, dtype=torch.bfloat16),
    # Nothing new said of the turned part and of epsilon: what is said is what the first code called them.
    Variant(
        "2-1_6b",
        2,
        {"use_qkv_bias": True, "rope_pct": 0.25, "norm_eps": 1e-5, "torch_dtype": "float16"},
        omits=("layer_norm_eps", "partial_rotary_factor", "rope_theta", "tie_word_embeddings"),
        dtype=torch.float16,
        stored=bare,
    ),
    # Heads of 12, of which 6 are turned.
    Variant(
        "2-12b",
        3,
        {
            "hidden_size": 48,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "partial_rotary_factor": 0.5,
            "qk_layernorm": True,
            "use_parallel_residual": True,
            "hidden_dropout": 0.0,
        },
        dtype=torch.bfloat16,
    ),
    # Heads of 10, of which 8 are turned, with every part of the block at once but the norms of heads side by side.
    Variant(
        "rope-parameters-tied",
        4,
        {
            "hidden_size": 40,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "layer_norm_eps": 1e-3,
            "qk_layernorm": True,
            "use_qkv_bias": True,
            "rope_parameters": {
                "rope_type": "linear",
                "factor": 2.0,
                "rope_theta": 500.0,
                "partial_rotary_factor": 0.8,
            },
            "tie_word_embeddings": True,
            "dtype": "float16",
        },
        omits=("torch_dtype", "partial_rotary_factor", "rope_theta"),
        dtype=torch.float16,
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


FAMILY = Family("stablelm", CONFIG, StableLmConfig, StableLmForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
