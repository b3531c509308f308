"""Qwen2: biases on queries, keys and values, windows in the upper layers in both spellings, tied heads, and yarn."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "max_window_layers": 1,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "sliding_window": 16,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}
YARN = {"factor": 4.0, "original_max_position_embeddings": 16, "type": "yarn"}


def with_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tied head stored as well."""
    return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


VARIANTS = [
    # There is a window in its config, which nothing uses.
    Variant("biases", 31, shards=2),
    Variant("tied", 182, {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}, dtype=torch.bfloat16, stored=with_head),
    # All layers but the first see 7 tokens.
    Variant(
        "window",
        33,
        {"num_hidden_layers": 3, "use_sliding_window": True, "sliding_window": 7},
        dtype=torch.float16,
    ),
    # The newer spelling: the second of three layers sees 9 tokens.
    Variant(
        "layer-types",
        84,
        {
            "num_hidden_layers": 3,
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"},
        },
        omits=("rope_theta",),
        dtype=torch.float16,
    ),
    # Qwen2.5 beyond its context, as its model cards say.
    Variant("yarn", 35, {"num_attention_heads": 2, "num_key_value_heads": 1, "rope_theta": 10000.0, "rope_scaling": YARN}),
    # Every setting of yarn; heads of 24.
    Variant(
        "yarn-settings",
        36,
        {
            "num_attention_heads": 2,
            "head_dim": 24,
            "rope_scaling": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 8.0,
                "original_max_position_embeddings": 16,
                "beta_fast": 4.0,
                "beta_slow": 0.5,
                "mscale": 2.0,
                "mscale_all_dim": 0.7,
                "truncate": False,
            },
        },
        omits=("rope_theta",),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; weights and biases large enough for attention and logits to vary."""
    if name.endswith("bias"):
        return 0.5 * noise
    return 1 + 0.3 * noise if name.endswith("norm.weight") else 0.2 * noise


FAMILY = Family("qwen2", CONFIG, Qwen2Config, Qwen2ForCausalLM, lambda model: model.model.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
