"""GGUF files of the random checkpoints in tests/golden/families, as llama.cpp would convert them.

Keys and names of tensors are those of ggml's own Python package. What `convert_hf_to_gguf.py` of llama.cpp does to the
values is written out here, one function for each of its classes: nothing of Assay is used. checkpoints.json says for
each file which checkpoint it is of, what of its config.json the file cannot say or says differently, and how closely
the values must agree. Numbers keep the type of the checkpoint, but for vectors, which are always F32.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from gguf import (
    GGMLQuantizationType,
    GGUFWriter,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    RopeScalingType,
    TokenType,
    get_tensor_name_map,
)
from gguf.quants import QuantError, quantize
from safetensors.torch import load_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
Config = dict[str, Any]
Tensors = dict[str, Tensor]


# Tokenizers: small, but of the two kinds that such files hold.

CHARACTERS = [*map(chr, range(ord("a"), ord("z") + 1)), *map(chr, range(ord("!"), ord("a")))]


def sentencepiece(writer: GGUFWriter, size: int) -> None:
    pieces = ["<unk>", "<s>", "</s>", "▁", "th", "the", "▁the", *CHARACTERS][:size]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0 if i < 3 else -float(i) for i in range(size)])
    special = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL]
    writer.add_token_types([*special, *[TokenType.NORMAL] * (size - 3)])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_space_prefix(False)


def byte_level(pre: str) -> Callable[[GGUFWriter, int], None]:
    def write(writer: GGUFWriter, size: int) -> None:
        tokens = ["<unk>", "<|endoftext|>", "Ġ", "Ċ", "th", "the", "Ġthe", *CHARACTERS][:size]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (size - 2))
        writer.add_token_merges(["t h", "th e", "Ġ the"])
        writer.add_unk_token_id(0)
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(1)

    return write


# The converter's classes: keys, and what becomes of the tensors.


def first(config: Config, *names: str) -> Any:
    return next(config[name] for name in names if config.get(name) is not None)


def common(writer: GGUFWriter, c: Config) -> None:
    """`TextModel.set_gguf_parameters`."""
    writer.add_block_count(first(c, "num_hidden_layers", "n_layer", "num_layers"))
    if "max_position_embeddings" in c:
        writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(first(c, "hidden_size", "n_embd", "n_embed"))
    if "intermediate_size" in c:
        writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(first(c, "num_attention_heads", "n_head"))
    if c.get("num_key_value_heads") is not None:
        writer.add_head_count_kv(c["num_key_value_heads"])
    theta = c.get("rope_theta") or (c.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None:
        writer.add_rope_freq_base(theta)
    if "rms_norm_eps" in c:
        writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    if "layer_norm_eps" in c:
        writer.add_layer_norm_eps(c["layer_norm_eps"])
    if c.get("num_local_experts"):
        writer.add_expert_count(c["num_local_experts"])
        writer.add_expert_used_count(c["num_experts_per_tok"])
    if c.get("head_dim") is not None:
        writer.add_key_length(c["head_dim"])
        writer.add_value_length(c["head_dim"])
    scaling = c.get("rope_scaling") or {}
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])


def permute(weights: Tensor, heads: int) -> Tensor:
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def llama_keys(writer: GGUFWriter, c: Config) -> None:
    common(writer, c)
    writer.add_vocab_size(c["vocab_size"])
    writer.add_rope_dimension_count(c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"])


def llama_tensors(c: Config, tensors: Tensors, apart: bool = False) -> Iterator[tuple[str, Tensor]]:
    heads = c["num_attention_heads"]
    kv_heads = c.get("num_key_value_heads") or heads
    for name, tensor in tensors.items():
        if name.endswith(("q_proj.weight", "q_proj.bias")):
            tensor = permute(tensor, heads)
        if name.endswith(("k_proj.weight", "k_proj.bias")):
            tensor = permute(tensor, kv_heads)
        if "block_sparse_moe.experts" not in name:
            yield name, tensor
    for layer in range(c["num_hidden_layers"] if "num_local_experts" in c else 0):
        for which in ("w1", "w2", "w3"):
            experts = [
                tensors[f"model.layers.{layer}.block_sparse_moe.experts.{x}.{which}.weight"]
                for x in range(c["num_local_experts"])
            ]
            if apart:
                own = {"w1": "ffn_gate", "w2": "ffn_down", "w3": "ffn_up"}[which]
                yield from ((f"blk.{layer}.{own}.{x}.weight", expert) for x, expert in enumerate(experts))
            else:
                yield f"layers.{layer}.feed_forward.experts.{which}.weight", torch.stack(experts)
    scaling = c.get("rope_scaling") or {}
    if scaling.get("rope_type") == "llama3":
        dim = c["hidden_size"] // heads
        factor, low, high = scaling["factor"], scaling["low_freq_factor"], scaling["high_freq_factor"]
        old = scaling["original_max_position_embeddings"]
        factors = []
        for freq in 1.0 / (c["rope_theta"] ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim)):
            wavelength = 2 * np.pi / freq
            if wavelength < old / high:
                factors.append(1)
            elif wavelength > old / low:
                factors.append(factor)
            else:
                smooth = (old / wavelength - low) / (high - low)
                factors.append(1 / ((1 - smooth) / factor + smooth))
        yield "rope_freqs.weight", torch.tensor(factors, dtype=torch.float32)


def as_they_are(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    yield from tensors.items()


def qwen_keys(writer: GGUFWriter, c: Config) -> None:
    common(writer, c)


def gemma_keys(writer: GGUFWriter, c: Config) -> None:
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_key_length(c["head_dim"])
    writer.add_value_length(c["head_dim"])


def gemma2_keys(writer: GGUFWriter, c: Config) -> None:
    gemma_keys(writer, c)
    writer.add_attn_logit_softcapping(c["attn_logit_softcapping"])
    writer.add_final_logit_softcapping(c["final_logit_softcapping"])
    writer.add_sliding_window(c["sliding_window"])


def gemma3_keys(writer: GGUFWriter, c: Config) -> None:
    gemma_keys(writer, c)
    writer.add_rope_freq_base(c["rope_parameters"]["full_attention"]["rope_theta"])
    writer.add_sliding_window(c["sliding_window"])


def gemma_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.endswith("norm.weight"):
            # Numbers that are neither F16 nor F32 are F32 by now.
            tensor = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor) + 1
        if name != "lm_head.weight":
            yield name, tensor


def phi2_keys(writer: GGUFWriter, c: Config) -> None:
    heads = c["num_attention_heads"]
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    # The converter writes 4 * hidden_size, which is the same in the published models.
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_eps(c["layer_norm_eps"])
    writer.add_rope_dimension_count(int(c.get("partial_rotary_factor", 0.5) * c["hidden_size"]) // heads)
    writer.add_add_bos_token(False)


def phi2_fused(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    """The first weights of Phi-2: `mixer.Wqkv`."""
    for name, tensor in tensors.items():
        if found := re.fullmatch(r"model\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            layer, suffix = found.groups()
            parts = [tensors[f"model.layers.{layer}.self_attn.{which}_proj.{suffix}"] for which in "qkv"]
            yield f"transformer.h.{layer}.mixer.Wqkv.{suffix}", torch.cat(parts)
        elif not re.search(r"\.[kv]_proj\.", name):
            yield name, tensor


def phi3_keys(writer: GGUFWriter, c: Config) -> None:
    hidden, heads = c["hidden_size"], c["num_attention_heads"]
    context, original = c["max_position_embeddings"], c["original_max_position_embeddings"]
    writer.add_context_length(context)
    writer.add_rope_scaling_orig_ctx_len(original)
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(c["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(c["rms_norm_eps"])
    writer.add_rope_dimension_count(int(c.get("partial_rotary_factor", 1.0) * hidden) // heads)
    writer.add_rope_freq_base(c["rope_theta"])
    writer.add_sliding_window(c.get("sliding_window") or 0)
    scale = context / original
    writer.add_rope_scaling_attn_factors(np.sqrt(1 + np.log(scale) / np.log(original)) if scale > 1 else 1.0)


def phi3_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for which in ("long", "short"):
        yield f"rope_factors_{which}.weight", torch.tensor(c["rope_scaling"][f"{which}_factor"], dtype=torch.float32)
    yield from tensors.items()


def stablelm_keys(writer: GGUFWriter, c: Config) -> None:
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    part = first(c, "partial_rotary_factor", "rope_pct")
    writer.add_rope_dimension_count(int(part * (c["hidden_size"] // c["num_attention_heads"])))
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["num_key_value_heads"])
    # Absent, it is taken for true, whatever the model is.
    writer.add_parallel_residual(c.get("use_parallel_residual", True))
    writer.add_layer_norm_eps(first(c, "layer_norm_eps", "norm_eps"))


def stablelm_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if ".norms." not in name:
            yield name, tensor
    for layer in range(c["num_hidden_layers"] if c.get("qk_layernorm") else 0):
        for which, count in (("q", c["num_attention_heads"]), ("k", c["num_key_value_heads"])):
            own = f"model.layers.{layer}.self_attn.{which}_layernorm"
            yield f"{own}.weight", torch.stack([tensors[f"{own}.norms.{x}.weight"] for x in range(count)])


def falcon_keys(writer: GGUFWriter, c: Config) -> None:
    writer.add_context_length(2048)
    writer.add_tensor_data_layout("jploski")
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(4 * c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c.get("num_kv_heads", 1))
    writer.add_layer_norm_eps(c["layer_norm_epsilon"])


def falcon_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    heads, kv_heads = c["num_attention_heads"], c.get("num_kv_heads", 1)
    dim = c["hidden_size"] // heads
    for name, tensor in tensors.items():
        if "query_key_value" in name:
            qkv = tensor.view(kv_heads, heads // kv_heads + 2, dim, dim * heads)
            q = qkv[:, :-2].reshape(heads * dim, dim * heads)
            k = qkv[:, [-2]].reshape(kv_heads * dim, dim * heads)
            v = qkv[:, [-1]].reshape(kv_heads * dim, dim * heads)
            tensor = torch.cat((q, k, v)).reshape_as(tensor)
        yield name, tensor


def bloom_keys(writer: GGUFWriter, c: Config) -> None:
    hidden, heads = first(c, "hidden_size", "n_embed"), first(c, "n_head", "num_attention_heads")
    writer.add_context_length(c.get("seq_length", hidden))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(4 * hidden)
    writer.add_block_count(c["n_layer"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_eps(c["layer_norm_epsilon"])


def apart(heads: int, tensor: Tensor) -> Tensor:
    """[heads, 3, dim, ...] -> [3, heads, dim, ...]"""
    qkv = tensor.reshape(heads, 3, tensor.shape[0] // (3 * heads), *tensor.shape[1:])
    return torch.cat([qkv[:, i].reshape(-1, *tensor.shape[1:]) for i in range(3)])


def bloom_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        name = name.removeprefix("transformer.")
        heads = first(c, "n_head", "num_attention_heads")
        yield name, apart(heads, tensor) if "query_key_value" in name else tensor
        if name == "word_embeddings.weight" and "lm_head.weight" not in tensors:
            yield "lm_head.weight", tensor


def neox_keys(writer: GGUFWriter, c: Config) -> None:
    writer.add_context_length(c["max_position_embeddings"])
    writer.add_embedding_length(c["hidden_size"])
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_feed_forward_length(c["intermediate_size"])
    writer.add_rope_dimension_count(int(c["rotary_pct"] * (c["hidden_size"] // c["num_attention_heads"])))
    writer.add_head_count(c["num_attention_heads"])
    writer.add_parallel_residual(c.get("use_parallel_residual", True))
    writer.add_layer_norm_eps(c["layer_norm_eps"])


def neox_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        yield name, apart(c["num_attention_heads"], tensor) if "query_key_value" in name else tensor


def gpt2_keys(writer: GGUFWriter, c: Config) -> None:
    writer.add_block_count(c["n_layer"])
    writer.add_context_length(c["n_ctx"])
    writer.add_embedding_length(c["n_embd"])
    writer.add_feed_forward_length(4 * c["n_embd"])
    writer.add_head_count(c["n_head"])
    writer.add_layer_norm_eps(c["layer_norm_epsilon"])


def gpt2_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name.endswith((".attn.bias", ".attn.masked_bias")):
            continue
        turned = name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))
        yield name.removeprefix("transformer."), tensor.transpose(1, 0) if turned else tensor


def mamba_keys(writer: GGUFWriter, c: Config) -> None:
    inner = first(c, "intermediate_size", "d_inner")
    assert inner == 2 * c["hidden_size"]
    writer.add_context_length(2**20)
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(c["num_hidden_layers"])
    writer.add_ssm_conv_kernel(c["conv_kernel"])
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(c["state_size"])
    writer.add_ssm_time_step_rank(c["time_step_rank"])
    writer.add_layer_norm_rms_eps(c["layer_norm_epsilon"])
    writer.add_ssm_dt_b_c_rms(False)


def mamba_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    embedding = next(tensor for name, tensor in tensors.items() if "embedding" in name)
    for name, tensor in tensors.items():
        if name.endswith(".A_log"):
            tensor = -torch.exp(tensor)
        if name.endswith("conv1d.weight"):
            tensor = tensor.squeeze()
        if name != "lm_head.weight" or not torch.equal(tensor, embedding):
            yield name, tensor


def chatglm_keys(writer: GGUFWriter, c: Config) -> None:
    writer.add_context_length(c.get("seq_length", c["hidden_size"]))
    writer.add_embedding_length(c["hidden_size"])
    writer.add_feed_forward_length(c["ffn_hidden_size"])
    writer.add_block_count(c["num_layers"])
    writer.add_head_count(c["num_attention_heads"])
    writer.add_head_count_kv(c["multi_query_group_num"])
    writer.add_layer_norm_rms_eps(c["layernorm_epsilon"])
    # Published models have heads of hidden_size / heads channels, and need no key to say so.
    writer.add_key_length(c["kv_channels"])
    writer.add_value_length(c["kv_channels"])
    writer.add_rope_dimension_count(c["kv_channels"] // 2)
    writer.add_add_bos_token(False)
    writer.add_rope_freq_base(10000 * c.get("rope_ratio", 1))


def chatglm_tensors(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if not name.endswith(".rotary_pos_emb.inv_freq"):
            yield name.removeprefix("transformer."), tensor


class File(NamedTuple):
    name: str
    checkpoint: str
    architecture: MODEL_ARCH
    keys: Callable[[GGUFWriter, Config], None]
    tensors: Callable[[Config, Tensors], Iterator[tuple[str, Tensor]]]
    tokenizer: Callable[[GGUFWriter, int], None]
    # What config.json would have to say to mean what the file means.
    says: Config = {}
    quantization: GGMLQuantizationType | None = None


def older_mixtral(c: Config, tensors: Tensors) -> Iterator[tuple[str, Tensor]]:
    """One tensor for each expert, as before April 2024."""
    yield from llama_tensors(c, tensors, apart=True)


A = MODEL_ARCH
LLAMA3 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
FILES = [
    File("llama-biases", "llama/biases", A.LLAMA, llama_keys, llama_tensors, sentencepiece),
    File("llama-tied", "llama/gqa-tied", A.LLAMA, llama_keys, llama_tensors, byte_level("llama-bpe")),
    File("llama-linear", "llama/rope-linear", A.LLAMA, llama_keys, llama_tensors, sentencepiece),
    File(
        "llama-llama3",
        "llama/rope-llama3",
        A.LLAMA,
        llama_keys,
        llama_tensors,
        byte_level("llama-bpe"),
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    ),
    File("llama-q8_0", "llama/mha", A.LLAMA, llama_keys, llama_tensors, sentencepiece, {}, GGMLQuantizationType.Q8_0),
    File("mistral", "mistral/head-dim", A.LLAMA, llama_keys, llama_tensors, sentencepiece),
    File("mixtral", "mixtral/2-of-2", A.LLAMA, llama_keys, llama_tensors, sentencepiece),
    File("mixtral-apart", "mixtral/one-of-3", A.LLAMA, llama_keys, older_mixtral, sentencepiece),
    File("qwen2-yarn", "qwen2/yarn", A.QWEN2, qwen_keys, as_they_are, byte_level("qwen2")),
    File("qwen3", "qwen3/tied", A.QWEN3, qwen_keys, as_they_are, byte_level("qwen2")),
    File("gemma", "gemma/multi-query", A.GEMMA, gemma_keys, gemma_tensors, sentencepiece),
    # The scale of the scores is not in the file: it follows from the size of the heads.
    File(
        "gemma2",
        "gemma2/alternating",
        A.GEMMA2,
        gemma2_keys,
        gemma_tensors,
        sentencepiece,
        {"query_pre_attn_scalar": 16},
    ),
    # Nor are the layers that slide and their base: five in six, and 10000.
    File(
        "gemma3",
        "gemma3_text/layer-types",
        A.GEMMA3,
        gemma3_keys,
        gemma_tensors,
        sentencepiece,
        {
            "layer_types": ["sliding_attention"] * 3,
            "rope_parameters": {
                "full_attention": {"rope_type": "default", "rope_theta": 50000},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000},
            },
        },
    ),
    File("phi2", "phi/phi-2", A.PHI2, phi2_keys, as_they_are, byte_level("phi-2")),
    File("phi2-fused", "phi/phi-1", A.PHI2, phi2_keys, phi2_fused, byte_level("gpt-2")),
    File("phi3-longrope", "phi3/longrope-short", A.PHI3, phi3_keys, phi3_tensors, sentencepiece),
    File("stablelm", "stablelm/2-1_6b", A.STABLELM, stablelm_keys, stablelm_tensors, byte_level("stablelm2")),
    File("stablelm-12b", "stablelm/2-12b", A.STABLELM, stablelm_keys, stablelm_tensors, byte_level("stablelm2")),
    # The checkpoint holds its head, although it is tied.
    File(
        "falcon-7b",
        "falcon/multi-query",
        A.FALCON,
        falcon_keys,
        falcon_tensors,
        byte_level("falcon"),
        {"tie_word_embeddings": False},
    ),
    File("falcon-40b", "falcon/grouped", A.FALCON, falcon_keys, falcon_tensors, byte_level("falcon")),
    File(
        "falcon-40b-q4_0",
        "falcon/grouped",
        A.FALCON,
        falcon_keys,
        falcon_tensors,
        byte_level("falcon"),
        {},
        GGMLQuantizationType.Q4_0,
    ),
    # The head is a copy of the embedding, and may be quantized otherwise: it is taken as it is.
    File(
        "bloom",
        "bloom/bare-names",
        A.BLOOM,
        bloom_keys,
        bloom_tensors,
        byte_level("bloom"),
        {"tie_word_embeddings": False},
    ),
    File("gptneox", "gpt_neox/pythia", A.GPTNEOX, neox_keys, neox_tensors, byte_level("olmo")),
    File("gpt2", "gpt2/openai", A.GPT2, gpt2_keys, gpt2_tensors, byte_level("gpt-2")),
    File("mamba", "mamba/hub", A.MAMBA, mamba_keys, mamba_tensors, byte_level("mpt")),
    File("chatglm", "chatglm/chatglm3-32k", A.CHATGLM, chatglm_keys, chatglm_tensors, sentencepiece),
]

# Kept as F32 whatever the file's type is.
WIDE = re.compile(r"_norm\.weight$|^position_embd|ssm_conv1d|ffn_gate_inp")


def data(
    name: str, tensor: Tensor, quantization: GGMLQuantizationType | None
) -> tuple[np.ndarray, GGMLQuantizationType]:
    if tensor.dim() <= 1 or WIDE.search(name):
        return tensor.float().numpy(), GGMLQuantizationType.F32
    kept = {
        torch.float32: GGMLQuantizationType.F32,
        torch.float16: GGMLQuantizationType.F16,
        torch.bfloat16: GGMLQuantizationType.BF16,
    }
    values = np.ascontiguousarray(tensor.float().numpy())
    if quantization is not None:
        try:
            return quantize(values, quantization), quantization
        except QuantError:
            return quantize(values, GGMLQuantizationType.F16), GGMLQuantizationType.F16
    return quantize(values, kept[tensor.dtype]), kept[tensor.dtype]


def write(file: File) -> None:
    folder = GOLDEN / "families" / file.checkpoint
    config = json.loads((folder / "config.json").read_text()) | file.says
    stored: Tensors = {}
    for weights in sorted(folder.glob("model*.safetensors")):
        stored |= load_file(weights)
    writer = GGUFWriter(GOLDEN / "gguf" / f"{file.name}.gguf", MODEL_ARCH_NAMES[file.architecture])
    file.keys(writer, config)
    file.tokenizer(writer, first(config, "vocab_size", "padded_vocab_size"))
    layers = first(config, "num_hidden_layers", "n_layer", "num_layers")
    names = get_tensor_name_map(file.architecture, layers)
    for name, tensor in file.tensors(config, stored):
        if name.endswith((".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq")):
            continue
        new = name
        if not name.startswith(("rope_f", "blk.")):
            found = (names.get_name(prefix + name, try_suffixes=(".weight", ".bias")) for prefix in ("", "model."))
            new = next(name for name in found if name is not None)
        values, kind = data(new, tensor, file.quantization)
        writer.add_tensor(new, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tolerance(file: File) -> float:
    """Of a value, as a fraction of the tensor's largest."""
    if file.quantization is not None:
        return {GGMLQuantizationType.Q8_0: 0.005, GGMLQuantizationType.Q4_0: 0.13}[file.quantization]
    return 1e-6 if "gemma" in file.checkpoint or "mamba" in file.checkpoint else 0


if __name__ == "__main__":
    for file in FILES:
        write(file)
    index = {
        file.name: {"checkpoint": file.checkpoint, "says": file.says, "tolerance": tolerance(file)} for file in FILES
    }
    (GOLDEN / "gguf" / "checkpoints.json").write_text(json.dumps(index, indent=2) + "\n")
