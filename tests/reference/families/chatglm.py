"""ChatGLM2 and ChatGLM3, whose modelling code comes with the weights: written here after it, and checked against GLM.

Transformers has no model of this layout. `ChatGlm` computes what `modeling_chatglm.py` of THUDM/chatglm2-6b,
THUDM/chatglm2-6b-32k and THUDM/chatglm3-6b does, with the names of their checkpoints, batch first and in float32. The
GLM of Transformers is the same block with its matrices apart: with the weights of `ChatGlm` it must give the same
logits.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import torch
from checkpoints import GOLDEN, Family, Variant, choose, write
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import Embedding, LayerNorm, Linear, Module, ModuleDict, ModuleList, Parameter
from torch.nn.functional import silu
from transformers import GlmConfig, GlmForCausalLM

Cache = tuple[Tensor, Tensor]


class ChatGlmConfig(SimpleNamespace):
    """A config.json over the defaults of `configuration_chatglm.py`."""

    def __init__(self, **values: Any) -> None:
        defaults = {
            "num_layers": 28,
            "hidden_size": 4096,
            "ffn_hidden_size": 13696,
            "kv_channels": 128,
            "num_attention_heads": 32,
            "seq_length": 2048,
            "layernorm_epsilon": 1e-5,
            "rmsnorm": True,
            "apply_residual_connection_post_layernorm": False,
            "post_layer_norm": True,
            "add_bias_linear": False,
            "add_qkv_bias": False,
            "multi_query_attention": False,
            "multi_query_group_num": 1,
            "apply_query_key_layer_scaling": True,
            "rope_ratio": 1,
            "_name_or_path": "",
        }
        super().__init__(**{**defaults, **values})

    @property
    def vocab_size(self) -> int:
        return self.padded_vocab_size

    @property
    def groups(self) -> int:
        """Heads of keys and of values."""
        return self.multi_query_group_num if self.multi_query_attention else self.num_attention_heads

    @property
    def interpolates(self) -> bool:
        """Is the code that of ChatGLM2-6B-32K?"""
        return "chatglm2" in self._name_or_path


class RMSNorm(Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


def norm(config: ChatGlmConfig) -> Module:
    return (RMSNorm if config.rmsnorm else LayerNorm)(config.hidden_size, eps=config.layernorm_epsilon)


class RotaryEmbedding(Module):
    """cos and sin of half of a head, [positions, dim / 2, 2]. The stored frequencies are read by nothing."""

    def __init__(self, config: ChatGlmConfig) -> None:
        super().__init__()
        self.config = config
        self.dim = config.kv_channels // 2
        self.register_buffer("inv_freq", 1.0 / (10000 ** (torch.arange(0, self.dim, 2).float() / self.dim)))

    def forward(self, length: int) -> Tensor:
        ratio = self.config.rope_ratio
        base, slower = (10000, ratio) if self.config.interpolates else (10000 * ratio, 1)
        theta = 1.0 / (base ** (torch.arange(0, self.dim, 2).float() / self.dim))
        angles = torch.outer(torch.arange(length).float() / slower, theta)
        return torch.stack((angles.cos(), angles.sin()), dim=-1)


def apply_rotary_pos_emb(x: Tensor, rope: Tensor) -> Tensor:
    """Turn the neighbouring pairs of the leading channels of each head of `x` [batch, tokens, heads, channels]."""
    batch, tokens, heads, _ = x.shape
    turned = rope.shape[-2] * 2
    pairs = x[..., :turned].reshape(batch, tokens, heads, turned // 2, 2)
    (left, right), (cos, sin) = pairs.unbind(-1), rope[None, :, None].unbind(-1)
    out = torch.stack((left * cos - right * sin, right * cos + left * sin), dim=-1)
    return torch.cat((out.flatten(3), x[..., turned:]), dim=-1)


class SelfAttention(Module):
    def __init__(self, config: ChatGlmConfig, number: int) -> None:
        super().__init__()
        self.config = config
        self.coefficient = number if config.apply_query_key_layer_scaling else 1
        self.projection = config.kv_channels * config.num_attention_heads
        fused = self.projection + 2 * config.groups * config.kv_channels
        self.query_key_value = Linear(config.hidden_size, fused, bias=config.add_bias_linear or config.add_qkv_bias)
        self.dense = Linear(self.projection, config.hidden_size, bias=config.add_bias_linear)

    def split(self, mixed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [batch, tokens, heads, channels]."""
        heads, groups, channels = self.config.num_attention_heads, self.config.groups, self.config.kv_channels
        if self.config.multi_query_attention:
            parts = mixed.split([self.projection, groups * channels, groups * channels], dim=-1)
            return tuple(part.unflatten(-1, (-1, channels)) for part in parts)
        return mixed.unflatten(-1, (heads, 3 * channels)).chunk(3, dim=-1)

    def forward(self, x: Tensor, rope: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        query, key, value = self.split(self.query_key_value(x))
        query, key = apply_rotary_pos_emb(query, rope), apply_rotary_pos_emb(key, rope)
        if cache is not None:
            key, value = torch.cat((cache[0], key), dim=1), torch.cat((cache[1], value), dim=1)
        present = (key, value)

        each = self.config.num_attention_heads // self.config.groups
        query, key, value = (
            part.repeat_interleave(times, dim=2).transpose(1, 2)
            for part, times in ((query, 1), (key, each), (value, each))
        )
        scores = query @ key.transpose(-1, -2) / (self.config.kv_channels**0.5 * self.coefficient)
        past = key.shape[2] - query.shape[2]
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(past + 1)
        weights = (scores * self.coefficient).masked_fill(future, float("-inf")).softmax(dim=-1)
        return self.dense((weights @ value).transpose(1, 2).flatten(2)), present


class MLP(Module):
    def __init__(self, config: ChatGlmConfig) -> None:
        super().__init__()
        self.dense_h_to_4h = Linear(config.hidden_size, 2 * config.ffn_hidden_size, bias=config.add_bias_linear)
        self.dense_4h_to_h = Linear(config.ffn_hidden_size, config.hidden_size, bias=config.add_bias_linear)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.dense_h_to_4h(x).chunk(2, dim=-1)
        return self.dense_4h_to_h(silu(gate) * up)


class GLMBlock(Module):
    def __init__(self, config: ChatGlmConfig, number: int) -> None:
        super().__init__()
        self.residual_after_norm = config.apply_residual_connection_post_layernorm
        self.input_layernorm = norm(config)
        self.self_attention = SelfAttention(config, number)
        self.post_attention_layernorm = norm(config)
        self.mlp = MLP(config)

    def forward(self, hidden: Tensor, rope: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        normed = self.input_layernorm(hidden)
        attended, present = self.self_attention(normed, rope, cache)
        hidden = (normed if self.residual_after_norm else hidden) + attended
        normed = self.post_attention_layernorm(hidden)
        return (normed if self.residual_after_norm else hidden) + self.mlp(normed), present


class GLMTransformer(Module):
    def __init__(self, config: ChatGlmConfig) -> None:
        super().__init__()
        self.layers = ModuleList([GLMBlock(config, layer + 1) for layer in range(config.num_layers)])
        if config.post_layer_norm:
            self.final_layernorm = norm(config)


class ChatGLMModel(Module):
    def __init__(self, config: ChatGlmConfig) -> None:
        super().__init__()
        self.embedding = ModuleDict({"word_embeddings": Embedding(config.padded_vocab_size, config.hidden_size)})
        self.rotary_pos_emb = RotaryEmbedding(config)
        self.encoder = GLMTransformer(config)
        self.output_layer = Linear(config.hidden_size, config.padded_vocab_size, bias=False)


class ChatGlm(Module):
    """The model, with as much of a Transformers model's interface as `checkpoints` asks for."""

    def __init__(self, config: ChatGlmConfig) -> None:
        super().__init__()
        self.config = config
        self.transformer = ChatGLMModel(config)

    def forward(self, tokens: Tensor, use_cache: bool = False, caches: list[Cache] | None = None) -> SimpleNamespace:
        parts = self.transformer
        past = 0 if caches is None else caches[0][0].shape[1]
        rope = parts.rotary_pos_emb(past + tokens.shape[1])[past:]
        hidden = parts.embedding["word_embeddings"](tokens)
        presents = []
        for index, block in enumerate(parts.encoder.layers):
            hidden, present = block(hidden, rope, None if caches is None else caches[index])
            presents.append(present)
        if self.config.post_layer_norm:
            hidden = parts.encoder.final_layernorm(hidden)
        return SimpleNamespace(logits=parts.output_layer(hidden), caches=presents if use_cache else None)

    @torch.no_grad()
    def generate(self, prompt: Tensor, max_new_tokens: int, **_settings: Any) -> Tensor:
        """The greedy continuation, one token at a time over the cache."""
        sequence, fresh, caches = prompt, prompt, None
        for _ in range(max_new_tokens):
            output = self(fresh, use_cache=True, caches=caches)
            fresh, caches = choose(output.logits), output.caches
            sequence = torch.cat((sequence, fresh), dim=1)
        return sequence

    def save_pretrained(self, directory: Path, max_shard_size: int) -> None:
        tensors = self.state_dict()
        assert sum(tensor.nbytes for tensor in tensors.values()) <= max_shard_size
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, directory: Path, dtype: torch.dtype, attn_implementation: str) -> Self:
        assert (dtype, attn_implementation) == (torch.float32, "eager")
        model = cls(ChatGlmConfig(**json.loads((directory / "config.json").read_text(encoding="utf-8"))))
        model.load_state_dict(load_file(directory / "model.safetensors"))
        return model


def as_glm(model: ChatGlm) -> GlmForCausalLM:
    """The same weights in the GLM of Transformers, to which the biases and norms that it lacks are added."""
    config = model.config
    ratio = {"rope_type": "default", "rope_theta": 10000.0 * config.rope_ratio}
    if config.interpolates:
        ratio = {"rope_type": "linear", "factor": float(config.rope_ratio), "rope_theta": 10000.0}
    glm = GlmForCausalLM(
        GlmConfig(
            vocab_size=config.padded_vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.ffn_hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_attention_heads,
            num_key_value_heads=config.groups,
            head_dim=config.kv_channels,
            max_position_embeddings=config.seq_length,
            rms_norm_eps=config.layernorm_epsilon,
            rope_parameters={**ratio, "partial_rotary_factor": 0.5},
            tie_word_embeddings=False,
            attn_implementation="eager",
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
    ).eval()

    def separate(fused: Tensor) -> Iterator[Tensor]:
        """Rows of queries, keys and values."""
        heads, channels = config.num_attention_heads, config.kv_channels
        if config.multi_query_attention:
            return iter(fused.split([heads * channels, config.groups * channels, config.groups * channels]))
        rows = fused.unflatten(0, (heads, 3, channels))
        return (rows[:, part].flatten(0, 1) for part in range(3))

    def give(module: Module, **values: Tensor | None) -> None:
        for name, value in values.items():
            setattr(module, name, None if value is None else Parameter(value.clone()))

    parts = model.transformer
    give(glm.model.embed_tokens, weight=parts.embedding["word_embeddings"].weight)
    give(glm.lm_head, weight=parts.output_layer.weight)
    glm.model.norm = parts.encoder.final_layernorm
    for theirs, ours in zip(glm.model.layers, parts.encoder.layers, strict=True):
        theirs.input_layernorm = ours.input_layernorm
        theirs.post_attention_layernorm = ours.post_attention_layernorm
        fused, biases = ours.self_attention.query_key_value, [None, None, None]
        if fused.bias is not None:
            biases = separate(fused.bias)
        projections = (theirs.self_attn.q_proj, theirs.self_attn.k_proj, theirs.self_attn.v_proj)
        for projection, weight, bias in zip(projections, separate(fused.weight), biases, strict=True):
            give(projection, weight=weight, bias=bias)
        for theirs_linear, ours_linear in (
            (theirs.self_attn.o_proj, ours.self_attention.dense),
            (theirs.mlp.gate_up_proj, ours.mlp.dense_h_to_4h),
            (theirs.mlp.down_proj, ours.mlp.dense_4h_to_h),
        ):
            give(theirs_linear, weight=ours_linear.weight, bias=ours_linear.bias)
    return glm


CONFIG: dict[str, Any] = {
    "_name_or_path": "THUDM/chatglm3-6b",
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0,
    "attention_softmax_in_fp32": True,
    "bias_dropout_fusion": True,
    "ffn_hidden_size": 56,
    "fp32_residual_connection": False,
    "hidden_dropout": 0.0,
    "hidden_size": 32,
    "kv_channels": 16,
    "layernorm_epsilon": 1e-05,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 4,
    "num_layers": 2,
    "original_rope": True,
    "padded_vocab_size": 80,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 64,
    "use_cache": True,
    "torch_dtype": "float16",
    "tie_word_embeddings": False,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def bare(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The model saved without its prefix, and no frequencies."""
    return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items() if "inv_freq" not in name}


VARIANTS = [
    Variant("chatglm2", 1, {"_name_or_path": "THUDM/chatglm2-6b"}, dtype=torch.float16),
    Variant(
        "chatglm2-32k",
        2,
        {"_name_or_path": "THUDM/chatglm2-6b-32k", "rope_ratio": 3, "seq_length": 256},
        dtype=torch.float16,
    ),
    # Heads of 12, of which 6 are turned: as in no checkpoint, but the layout allows it.
    Variant(
        "chatglm3-32k",
        3,
        {"rope_ratio": 50, "seq_length": 512, "kv_channels": 12},
        dtype=torch.float16,
    ),
    # As GLM-4-9B, with both spellings of the number of layers, and no name.
    Variant(
        "glm-4",
        4,
        {
            "rope_ratio": 500,
            "layernorm_epsilon": 1.5625e-07,
            "num_hidden_layers": 2,
            "multi_query_group_num": 1,
            "classifier_dropout": None,
            "torch_dtype": "bfloat16",
        },
        omits=("_name_or_path",),
        dtype=torch.bfloat16,
        stored=bare,
    ),
    # What the code does where the config says nothing: queries, keys and values of a head are neighbours, no biases.
    Variant(
        "multi-head",
        5,
        {"num_attention_heads": 2},
        omits=(
            "multi_query_attention",
            "multi_query_group_num",
            "add_qkv_bias",
            "add_bias_linear",
            "layernorm_epsilon",
            "rmsnorm",
            "post_layer_norm",
            "apply_residual_connection_post_layernorm",
        ),
        dtype=torch.float16,
    ),
    Variant("biases", 6, {"add_bias_linear": True, "add_qkv_bias": False, "rmsnorm": False}, dtype=torch.float16),
    Variant(
        "residual-after-norm",
        2,
        {
            "apply_residual_connection_post_layernorm": True,
            "post_layer_norm": False,
            "apply_query_key_layer_scaling": False,
        },
        dtype=torch.float16,
    ),
]


def fill(name: str, _value: Tensor, noise: Tensor) -> Tensor:
    """Gains around 1; embeddings, weights and biases large enough for attention and logits to vary."""
    if "layernorm" in name and name.endswith("weight"):
        return 1 + 0.3 * noise
    if name.endswith("bias"):
        return 0.1 * noise
    return (0.2 if "embed" in name else 0.25) * noise


FAMILY = Family("chatglm", CONFIG, ChatGlmConfig, ChatGlm, lambda model: model.transformer.encoder.layers, fill)


@torch.no_grad()
def assert_agrees_with_glm() -> None:
    """Assert that GLM gives the logits that are stored, for every variant that it can express."""
    for variant in VARIANTS:
        directory = GOLDEN / "families" / "chatglm" / variant.name
        config = ChatGlmConfig(**json.loads((directory / "config.json").read_text(encoding="utf-8")))
        if config.apply_residual_connection_post_layernorm:
            continue
        prefix = "transformer." if variant.stored is None else ""
        model = ChatGlm(config)
        own = load_file(directory / "model.safetensors")
        parts = {name.removeprefix(prefix): tensor for name, tensor in own.items() if "inv_freq" not in name}
        missing = model.transformer.load_state_dict(parts, strict=False)
        assert missing.missing_keys == ["rotary_pos_emb.inv_freq"] and not missing.unexpected_keys, missing
        golden = load_file(directory / "golden.safetensors")
        logits = as_glm(model)(golden["tokens"].long(), use_cache=False).logits
        worst = (logits - golden["logits"]).abs().max() / golden["logits"].abs().max()
        assert worst < 1e-5, (variant.name, worst)
        print(f"chatglm/{variant.name}: {worst:.1e} from GLM", flush=True)


if __name__ == "__main__":
    write(FAMILY, VARIANTS)
    assert_agrees_with_glm()
