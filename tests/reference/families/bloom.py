"""BLOOM: head counts that are and are not powers of two, both residuals, both spellings, and the bare model's names."""


from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import BloomConfig, BloomForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["BloomForCausalLM"],
    "model_type": "bloom",
    "vocab_size": 64,
    "n_embed": 32,
    "n_layer": 2,
    "num_attention_heads": 4,
    "seq_length": 128,
    "layer_norm_epsilon": 1e-5,
    "apply_residual_connection_post_layernorm": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float16",
}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the checkpoints of the BLOOM team: no prefix, and the head stored although it is tied."""
    stored = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    return stored | {"lm_head.weight": stored["word_embeddings.weight"].clone()}


VARIANTS = [
    Variant("power-of-two", 54, dtype=torch.float16),
    # Six heads: the slopes of four, then two of those of eight.
    Variant(
        "six-heads",
        52,
        {"hidden_size": 48, "n_head": 6, "apply_residual_connection_post_layernorm": True},
        omits=("n_embed", "num_attention_heads"),
        dtype=torch.float16,
    ),
    Variant("bare-names", 62, {"num_attention_heads": 2}, dtype=torch.float16, stored=bare),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1, biases that matter."""
    return 1 + 0.3 * noise if "layernorm" in name and "weight" in name or name.endswith("ln_f.weight") else 0.25 * noise


FAMILY = Family("bloom", CONFIG, BloomConfig, BloomForCausalLM, lambda model: model.transformer.h, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
