"""Mamba: biases, sizes that are no multiples of eight, the rank of the time step given and derived, and hub spellings.

Time steps reach from nearly nothing to tens, so that states are kept for the whole sequence and forgotten at once.
"""

from typing import Any

import torch
from checkpoints import Family, Variant, write
from torch import Tensor
from transformers import MambaConfig, MambaForCausalLM

CONFIG: dict[str, Any] = {
    "architectures": ["MambaForCausalLM"],
    "model_type": "mamba",
    "vocab_size": 64,
    "hidden_size": 32,
    "state_size": 16,
    "num_hidden_layers": 2,
    "expand": 2,
    "conv_kernel": 4,
    "layer_norm_epsilon": 1e-5,
    "hidden_act": "silu",
    "residual_in_fp32": True,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "torch_dtype": "float32",
}


def as_first_converted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The embedding's first name, and the head beside it although they are tied."""
    embedding = tensors.pop("backbone.embeddings.weight")
    return {**tensors, "backbone.embedding.weight": embedding, "lm_head.weight": embedding.clone()}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The decoder saved without its head."""
    return {name.removeprefix("backbone."): tensor for name, tensor in tensors.items()}


VARIANTS = [
    # Every key of state-spaces/mamba-130m-hf.
    Variant(
        "hub",
        1,
        {
            "d_inner": 64,
            "d_model": 32,
            "fused_add_norm": True,
            "initializer_range": 0.1,
            "intermediate_size": 64,
            "n_layer": 2,
            "pad_vocab_size_multiple": 8,
            "rescale_prenorm_residual": False,
            "rms_norm": True,
            "ssm_cfg": {},
            "time_step_floor": 0.0001,
            "time_step_init_scheme": "random",
            "time_step_max": 0.1,
            "time_step_min": 0.001,
            "time_step_rank": 4,
            "time_step_scale": 1.0,
            "use_bias": False,
            "use_cache": True,
            "use_conv_bias": True,
        },
        stored=as_first_converted,
    ),
    Variant(
        "biases",
        2,
        {"use_bias": True, "tie_word_embeddings": False, "num_hidden_layers": 3, "state_size": 8, "dtype": "float16"},
        omits=("torch_dtype",),
        dtype=torch.float16,
        shards=2,
    ),
    Variant(
        "no-conv-bias",
        3,
        {"use_conv_bias": False, "conv_kernel": 3, "time_step_rank": 5, "torch_dtype": "bfloat16"},
        omits=("bos_token_id", "eos_token_id", "pad_token_id"),
        dtype=torch.bfloat16,
        tokens=70,
    ),
    # 36 / 16 rounds up to 3; 54 channels, not twice 36, with states of 5.
    Variant(
        "odd-sizes",
        4,
        {"hidden_size": 36, "intermediate_size": 54, "state_size": 5, "conv_kernel": 2, "time_step_rank": "auto"},
        omits=("hidden_act", "layer_norm_epsilon", "residual_in_fp32"),
        stored=bare,
    ),
]


def fill(name: str, value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1, decays around those of a fresh model, time steps of all magnitudes; the rest lets states vary."""
    if name.endswith(("norm.weight", "norm_f.weight", "mixer.D")):
        return 1 + 0.3 * noise
    if name.endswith("A_log"):
        return torch.log(torch.arange(1, value.shape[1] + 1)) + 0.3 * noise
    if name.endswith("dt_proj.bias"):
        return -3 + 3 * noise
    if name.endswith("conv1d.weight"):
        return 0.6 * noise
    return 0.3 * noise


FAMILY = Family("mamba", CONFIG, MambaConfig, MambaForCausalLM, lambda model: model.backbone.layers, fill)

if __name__ == "__main__":
    write(FAMILY, VARIANTS)
