"""OPT: norms before and after, word vectors narrower and wider than the hidden state, no biases, and both prefixes."""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import OPTConfig, OPTForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["OPTForCausalLM"],
    "model_type": "opt",
    "vocab_size": 80,
    "hidden_size": 32,
    "ffn_dim": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
    "activation_function": "relu",
    "do_layer_norm_before": True,
    "_remove_final_layer_norm": False,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "torch_dtype": "float16",
}


def without_model(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as in the files of OPT-350M, 6.7B, 13B and 30B."""
    return {name.removeprefix("model."): tensor for name, tensor in tensors.items()}


def with_head(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tied head stored too, as in the files of OPT-125M, 1.3B, 2.7B and 66B."""
    return {**tensors, "lm_head.weight": tensors["model.decoder.embed_tokens.weight"].clone()}


VARIANTS = [
    Variant("125m", 5, dtype=torch.float16, stored=with_head),
    Variant(
        "350m",
        7,
        {"do_layer_norm_before": False, "word_embed_proj_dim": 20},
        dtype=torch.float16,
        stored=without_model,
    ),
    # Galactica, whose config has neither the word vectors' size nor what OPT added later.
    Variant(
        "galactica",
        2,
        {"activation_function": "gelu", "num_attention_heads": 2},
        omits=("word_embed_proj_dim", "_remove_final_layer_norm", "do_layer_norm_before"),
        dtype=torch.float16,
    ),
    Variant(
        "bare",
        3,
        {"enable_bias": False, "layer_norm_elementwise_affine": False, "tie_word_embeddings": False},
        dtype=torch.float16,
    ),
    # A norm before the projection, which makes the hidden state wider; heads of 10.
    Variant("wide", 4, {"hidden_size": 40, "word_embed_proj_dim": 48, "torch_dtype": "bfloat16"}, dtype=torch.bfloat16),
    Variant("no-final-norm", 6, {"_remove_final_layer_norm": True}, dtype=torch.float16),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; embeddings, weights and biases large enough for attention and logits to vary."""
    if name.endswith("norm.weight"):
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return (0.2 if "embed" in name else 0.25) * noise


FAMILY = Family("opt", CONFIG, OPTConfig, OPTForCausalLM, lambda model: model.model.decoder.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
