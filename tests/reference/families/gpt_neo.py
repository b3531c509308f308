"""GPT-Neo: layers that see everything and layers that see a window shorter than the sequence, in both spellings."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import GPTNeoConfig, GPTNeoForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["GPTNeoForCausalLM"],
    "model_type": "gpt_neo",
    "vocab_size": 80,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "max_position_embeddings": 64,
    "intermediate_size": None,
    "attention_types": [[["global", "local"], 1]],
    "attention_layers": ["global", "local"],
    "window_size": 7,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float16",
}


def with_masks_and_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Masks and their fill value as once stored, and the tied head."""
    masks: dict[str, Tensor] = {"lm_head.weight": tensors["transformer.wte.weight"].clone()}
    for layer in range(2):
        masks[f"transformer.h.{layer}.attn.attention.bias"] = torch.ones(64, 64, dtype=torch.bool).tril()[None, None]
        masks[f"transformer.h.{layer}.attn.attention.masked_bias"] = torch.tensor(-1e9)
    return {**tensors, **masks}


def without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of a model saved without the head."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}


VARIANTS = [
    Variant("125m", 2, dtype=torch.float16, stored=with_masks_and_head),
    # A window of 5 in the first and the last layer, named one by one; heads of 10.
    Variant(
        "layers",
        4,
        {
            "hidden_size": 40,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "attention_layers": ["local", "global", "local"],
            "window_size": 5,
            "intermediate_size": 40,
            "layer_norm_epsilon": 1e-3,
            "activation_function": "gelu",
        },
        omits=("attention_types", "num_layers", "num_heads"),
        dtype=torch.float16,
    ),
    # Only the pattern; a token alone and the one before it, and a head of its own.
    Variant(
        "types",
        6,
        {
            "attention_types": [[["local"], 1], [["global"], 1]],
            "window_size": 2,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
        },
        omits=("attention_layers", "intermediate_size", "layer_norm_epsilon", "activation_function"),
        dtype=torch.bfloat16,
    ),
    Variant("bare-names", 3, {"num_heads": 2}, dtype=torch.float16, stored=without_prefix),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; queries and keys small enough for scores that nothing scales."""
    if ".ln_" in name and name.endswith("weight"):
        return 1 + 0.3 * noise
    if "q_proj" in name or "k_proj" in name:
        return 0.12 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return (0.2 if "wte" in name or "wpe" in name else 0.25) * noise


FAMILY = Family("gpt_neo", CONFIG, GPTNeoConfig, GPTNeoForCausalLM, lambda model: model.transformer.h, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
