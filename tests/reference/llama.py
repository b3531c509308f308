"""Tiny random Llama checkpoints, one per architectural variant, with the outputs Transformers computes for them.

Each `tests/golden/llama/<variant>/` is a checkpoint in the Hugging Face layout (config.json and safetensors weights)
plus `golden.safetensors`, computed in float32 with eager attention from the weights as stored:

    tokens     int32 [2, T]
    logits     float32 [2, T, vocabulary]
    hidden.0   float32 [2, T, hidden], the embedding
    hidden.i   float32 [2, T, hidden], the output of block i counted from 1, before the final norm
    greedy     int32 [1, P + 16], the first P tokens of row 0 and their greedy continuation

Greedy tokens are computed with a KV cache and again without one. The exception is `rope-dynamic`, whose frequencies
depend on the length of the sequence so far: keys cached at an earlier length carry other frequencies, and the golden
continuation is the one computed without a cache, each step over the whole sequence at its own length.
"""

import json
import math
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from llama_forward import assert_matches_transformers
from quantizers import GOLDEN
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

CONTINUATION = 16
MINIMUM_MARGIN = 1e-3
"""Least gap between the two best logits on a greedy path, so that rounding cannot change the choice."""


@dataclass(frozen=True)
class Variant:
    """A checkpoint; its config.json is BASE_CONFIG overridden by `config`, without the keys in `omits`."""

    name: str
    seed: int
    config: dict[str, Any]
    omits: tuple[str, ...] = ()
    tokens: int = 64
    prompt: int = 24
    dtype: torch.dtype = torch.float32
    shards: int = 1
    cached_greedy: bool = True


BASE_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
}

VARIANTS = [
    # The oldest spelling: no rope_theta, and as many key-value heads as heads because the key is absent.
    Variant("mha", 1, {"rms_norm_eps": 1e-6}, omits=("num_key_value_heads",), shards=2),
    Variant(
        "gqa-tied",
        2,
        {
            "num_hidden_layers": 3,
            "tie_word_embeddings": True,
            "rope_theta": 500000.0,
            "rope_scaling": None,
            "torch_dtype": "bfloat16",
        },
        dtype=torch.bfloat16,
    ),
    Variant(
        "biases",
        13,
        {
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
            "dtype": "float16",
        },
        omits=("torch_dtype",),
        dtype=torch.float16,
    ),
    # Heads of 20 where hidden / heads is 12, and a single key-value head.
    Variant("head-dim", 4, {"hidden_size": 48, "head_dim": 20, "num_key_value_heads": 1, "rope_theta": 10000.0}),
    Variant("rope-linear", 5, {"rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    Variant(
        "rope-dynamic",
        6,
        {
            "max_position_embeddings": 32,
            "rope_theta": 10000.0,
            "rope_scaling": {"rope_type": "dynamic", "factor": 2.0},
        },
        tokens=80,
        cached_greedy=False,
    ),
    Variant(
        "rope-llama3",
        7,
        {
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 1024,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 128,
            },
        },
        tokens=96,
    ),
    Variant(
        "rope-parameters",
        8,
        {
            "rope_parameters": {"rope_theta": 50000.0, "rope_type": "linear", "factor": 2.0},
            "dtype": "float32",
        },
        omits=("torch_dtype",),
    ),
]


def config_of(variant: Variant) -> dict[str, Any]:
    """The contents of the variant's config.json, in the spelling it is meant to test; LlamaConfig may alter them."""
    config = {**BASE_CONFIG, **variant.config}
    return deepcopy({key: value for key, value in config.items() if key not in variant.omits})


def random_model(variant: Variant) -> LlamaForCausalLM:
    """A model with gains around 1, non-zero biases, and weights large enough for attention and logits to vary."""
    model = LlamaForCausalLM(LlamaConfig(**config_of(variant)))
    generator = torch.Generator().manual_seed(variant.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.3 * noise)
            else:
                parameter.copy_(0.2 * noise)
    return model.to(variant.dtype)


def write_checkpoint(variant: Variant, directory: Path) -> None:
    """Write config.json and the weights, in as many shards as asked for."""
    model = random_model(variant)
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    limit = size if variant.shards == 1 else math.ceil(0.55 * size)
    model.save_pretrained(directory, max_shard_size=limit)
    (directory / "generation_config.json").unlink()
    (directory / "config.json").write_text(json.dumps(config_of(variant), indent=2) + "\n", encoding="utf-8")

    files = sorted(directory.glob("*.safetensors"))
    assert len(files) == variant.shards, files
    stored: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as shard:
            stored.update({name: shard.get_tensor(name) for name in shard.keys()})
    assert all(tensor.dtype == variant.dtype for tensor in stored.values())
    assert ("lm_head.weight" in stored) != config_of(variant)["tie_word_embeddings"]


def load(directory: Path) -> LlamaForCausalLM:
    """Load a checkpoint in float32. Dynamic rope keeps state between calls, so callers load afresh."""
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    return model.eval()


def assert_loads_as_written(variant: Variant, loaded: LlamaForCausalLM) -> None:
    """Assert that the stored checkpoint holds the generated model, rounded to its storage type."""
    expected, actual = random_model(variant).float(), loaded
    assert expected.config.rope_parameters == actual.config.rope_parameters
    for (name, left), (_, right) in zip(expected.named_parameters(), actual.named_parameters(), strict=True):
        assert torch.equal(left, right), name
    if variant.name == "rope-llama3":
        assert_three_regimes(loaded)


def assert_three_regimes(model: LlamaForCausalLM) -> None:
    """Assert that the llama3 scaling keeps some frequencies, divides some by its factor, the most, and blends some."""
    rope = model.model.rotary_emb
    plain, _ = rope.compute_default_rope_parameters(model.config)
    ratio = plain / rope.inv_freq
    kept, divided = torch.isclose(ratio, torch.tensor(1.0)), torch.isclose(ratio, ratio.max())
    assert kept.any() and divided.any() and (~kept & ~divided).any(), ratio


@torch.no_grad()
def forward(model: LlamaForCausalLM, tokens: Tensor) -> dict[str, Tensor]:
    """Logits, the embedding, and the output of each block before the final norm."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    modules = [model.model.embed_tokens, *model.model.layers]
    hooks = [module.register_forward_hook(keep(f"hidden.{index}")) for index, module in enumerate(modules)]
    outputs["logits"] = model(tokens, use_cache=False).logits
    for hook in hooks:
        hook.remove()
    return outputs


def choose(logits: Tensor) -> Tensor:
    """The best token of the last position, whose lead must be clear."""
    best = logits[0, -1].topk(2)
    assert best.values[0] - best.values[1] > MINIMUM_MARGIN, best
    return best.indices[:1].unsqueeze(0)


@torch.no_grad()
def greedy_without_cache(model: LlamaForCausalLM, prompt: Tensor) -> Tensor:
    """Continue `prompt`, running the whole sequence at every step."""
    sequence = prompt
    for _ in range(CONTINUATION):
        sequence = torch.cat((sequence, choose(model(sequence, use_cache=False).logits)), dim=1)
    return sequence


@torch.no_grad()
def greedy_with_cache(model: LlamaForCausalLM, prompt: Tensor) -> Tensor:
    """Continue `prompt`, running it once and then one token at a time over the cache."""
    sequence, step, cache = prompt, prompt, None
    for _ in range(CONTINUATION):
        output = model(step, past_key_values=cache, use_cache=True)
        cache, step = output.past_key_values, choose(output.logits)
        sequence = torch.cat((sequence, step), dim=1)
    return sequence


def golden(variant: Variant, directory: Path) -> dict[str, Tensor]:
    """The tensors of golden.safetensors, computed from the checkpoint as stored."""
    model = load(directory)
    assert_loads_as_written(variant, model)
    generator = torch.Generator().manual_seed(1000 + variant.seed)
    tokens = torch.randint(0, model.config.vocab_size, (2, variant.tokens), generator=generator)
    outputs = forward(model, tokens)
    assert_matches_transformers(model, tokens[1])

    prompt = tokens[:1, : variant.prompt]
    greedy = greedy_without_cache(load(directory), prompt)
    if variant.cached_greedy:
        assert torch.equal(greedy, greedy_with_cache(load(directory), prompt)), variant.name

    assert all(tensor.isfinite().all() for tensor in outputs.values())
    assert outputs["logits"].std(dim=-1).min() > 0.3, "degenerate logits"
    assert len(set(greedy[0, variant.prompt :].tolist())) > 3, "degenerate continuation"
    return {"tokens": tokens.int(), "greedy": greedy.int(), **outputs}


def main() -> None:
    torch.set_num_threads(1)
    logging.disable_progress_bar()
    for variant in VARIANTS:
        directory = GOLDEN / "llama" / variant.name
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        write_checkpoint(variant, directory)
        save_file(golden(variant, directory), directory / "golden.safetensors")


if __name__ == "__main__":
    main()
