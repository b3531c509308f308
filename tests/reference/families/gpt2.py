"""GPT-2: matrices stored as [in, out], both prefixes, stored masks, and every scale of the scores."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

CONFIG: dict[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "vocab_size": 80,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "n_ctx": 64,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def as_openai(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The oldest files: no prefix, and the causal mask of every layer."""
    masks = {f"h.{layer}.attn.bias": torch.ones(64, 64).tril()[None, None] for layer in range(2)}
    return {**{name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}, **masks}


def with_masks_and_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Files of the years after: the prefix, masks as bits and their fill value, and the tied head."""
    masks: dict[str, Tensor] = {"lm_head.weight": tensors["transformer.wte.weight"].clone()}
    for layer in range(3):
        masks[f"transformer.h.{layer}.attn.bias"] = torch.ones(64, 64, dtype=torch.bool).tril()[None, None]
        masks[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return {**tensors, **masks}


VARIANTS = [
    Variant("openai", 5, dtype=torch.float16, stored=as_openai),
    Variant(
        "mistral",
        3,
        {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True, "n_layer": 3, "n_inner": 40},
        dtype=torch.float16,
        stored=with_masks_and_head,
    ),
    Variant(
        "cerebras",
        4,
        {"activation_function": "gelu", "n_embd": 40, "n_inner": 160, "layer_norm_epsilon": 1e-3},
        dtype=torch.bfloat16,
    ),
    # The names of other families, scores as they are, and a head of its own.
    Variant(
        "unscaled",
        2,
        {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "scale_attn_weights": False,
            "activation_function": "relu",
            "tie_word_embeddings": False,
        },
        omits=("n_embd", "n_layer", "n_head", "n_positions", "n_ctx", "layer_norm_epsilon"),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; embeddings, weights and biases large enough for attention and logits to vary."""
    if ".ln_" in name and name.endswith("weight"):
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return (0.2 if "wte" in name or "wpe" in name else 0.25) * noise


FAMILY = Family("gpt2", CONFIG, GPT2Config, GPT2LMHeadModel, lambda model: model.transformer.h, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
