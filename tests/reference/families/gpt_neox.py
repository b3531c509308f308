"""GPT-NeoX: both residuals, every spelling of the turned part of a head, and buffers as once stored."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["GPTNeoXForCausalLM"],
    "model_type": "gpt_neox",
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "hidden_act": "gelu",
    "max_position_embeddings": 64,
    "layer_norm_eps": 1e-5,
    "rotary_emb_base": 10000,
    "rotary_pct": 0.25,
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "torch_dtype": "float16",
}


def head_named(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The head as `embed_out`, as on the hub, or as `lm_head`, as transformers calls it."""
    renamed = {"lm_head.weight": f"{name}.weight", "embed_out.weight": f"{name}.weight"}
    return {renamed.get(key, key): tensor for key, tensor in tensors.items()}


def as_pythia(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Masks, their fill value and rotary frequencies, as in the files of Pythia."""
    buffers: dict[str, Tensor] = {}
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention"
        buffers[f"{attention}.bias"] = torch.ones(64, 64, dtype=torch.bool).tril()[None, None]
        buffers[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        buffers[f"{attention}.rotary_emb.inv_freq"] = 10000 ** -(torch.arange(0, 4, 2) / 4)
    return {**head_named("embed_out", tensors), **buffers}


VARIANTS = [
    Variant("pythia", 4, dtype=torch.float16, stored=as_pythia),
    # One after the other, as in RedPajama-INCITE, with heads of 12 turned by half, which
    # transformers 4.48 and later say twice.
    Variant(
        "serial",
        3,
        {
            "hidden_size": 48,
            "num_attention_heads": 4,
            "use_parallel_residual": False,
            "rotary_pct": 0.5,
            "rotary_emb_base": 500,
            "partial_rotary_factor": 0.5,
            "rope_theta": 500,
            "layer_norm_eps": 1e-3,
            "hidden_act": "gelu_fast",
        },
        dtype=torch.float16,
        stored=lambda tensors: head_named("lm_head", tensors),
    ),
    # As saved by transformers 5, with a tied head; whole heads are turned.
    Variant(
        "no-bias-tied",
        5,
        {
            "attention_bias": False,
            "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 2000.0, "partial_rotary_factor": 1.0},
            "dtype": "bfloat16",
        },
        omits=("torch_dtype", "rotary_pct", "rotary_emb_base"),
        dtype=torch.bfloat16,
    ),
    # Nothing said of the turned part, which is a quarter.
    Variant(
        "rope-linear",
        6,
        {"rope_scaling": {"type": "linear", "factor": 4.0}},
        omits=(
            "rotary_pct",
            "rotary_emb_base",
            "layer_norm_eps",
            "hidden_act",
            "use_parallel_residual",
            "tie_word_embeddings",
        ),
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; embeddings, weights and biases large enough for attention and logits to vary."""
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return (0.2 if "embed_in" in name else 0.25) * noise


FAMILY = Family("gpt_neox", CONFIG, GPTNeoXConfig, GPTNeoXForCausalLM, lambda model: model.gpt_neox.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
