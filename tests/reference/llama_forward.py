"""A compact float32 Llama forward pass with the fake quantization of Li et al. (ICML 2024).

    weights       every linear of the decoder blocks, asymmetric, in groups along its inputs; the embedding, the norms,
                  the biases and the head are left alone
    activations   the input of each of those linears, asymmetric, per token over the whole vector
    KV cache      keys after the rotary embedding and values, before they are repeated for grouped-query attention;
                  asymmetric, per token and head, in groups along the head dimension

Everything is simulated: a tensor is replaced by its reconstruction, and the matrix products stay float32. Without
quantization the pass equals Transformers' own, which `assert_matches_transformers` checks.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from quantizers import Range, fake_quantize
from torch import Tensor
from torch.nn import Linear, Module
from torch.nn import functional as F
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaMLP, LlamaRMSNorm


@dataclass(frozen=True)
class Precision:
    """Bit widths; None leaves that kind of tensor in float32, and a group of None is a whole channel or head."""

    weight_bits: int | None = None
    weight_group: int | None = None
    activation_bits: int | None = None
    kv_bits: int | None = None
    kv_group: int | None = None
    range: Range = "compat"


class QuantizedLinear(NamedTuple):
    """A linear layer whose weight has been replaced by its reconstruction."""

    weight: Tensor
    bias: Tensor | None


def last_dimension(tensor: Tensor, bits: int, group: int | None, value_range: Range) -> Tensor:
    """Reconstruct `tensor` from groups along its last dimension."""
    return fake_quantize(tensor, bits, "channel" if group is None else "group", group, value_range)


def rms_norm(norm: LlamaRMSNorm, hidden: Tensor) -> Tensor:
    """gain * x / sqrt(mean(x^2) + epsilon)"""
    return norm.weight * (hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon))


def rotate(tensor: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of [head, token, dimension], with the two halves of each head as the pairs."""
    first, second = tensor.chunk(2, dim=-1)
    return tensor * cos + torch.cat((-second, first), dim=-1) * sin


class FakeQuantizedLlama:
    """Runs the weights of a Transformers Llama model, one sequence at a time, at a given precision."""

    def __init__(self, model: LlamaForCausalLM, precision: Precision, exact: bool = False) -> None:
        self.model = model
        self.exact = exact
        """Compute products and norms in float64 and round their results: the same pass with other last bits."""
        self.precision = precision
        self.linears: dict[Module, QuantizedLinear] = {}
        self.indivisible: list[str] = []
        """Linears left in float32 because their inputs do not split into weight groups (as the published code does)."""
        for name, module in model.model.layers.named_modules():
            if isinstance(module, Linear):
                self.linears[module] = self.quantize_linear(name, module)

    def quantize_linear(self, name: str, linear: Linear) -> QuantizedLinear:
        bits, group = self.precision.weight_bits, self.precision.weight_group
        weight = linear.weight.detach()
        if bits is not None:
            if group is not None and linear.in_features % group != 0:
                self.indivisible.append(name)
            else:
                weight = last_dimension(weight, bits, group, self.precision.range)
        return QuantizedLinear(weight, linear.bias)

    def linear(self, module: Module, hidden: Tensor) -> Tensor:
        if self.precision.activation_bits is not None:
            hidden = last_dimension(hidden, self.precision.activation_bits, None, self.precision.range)
        weight, bias = self.linears[module]
        if self.exact:
            return F.linear(hidden.double(), weight.double(), None if bias is None else bias.double()).float()
        return F.linear(hidden, weight, bias)

    def norm(self, norm: LlamaRMSNorm, hidden: Tensor) -> Tensor:
        return rms_norm(norm, hidden.double()).float() if self.exact else rms_norm(norm, hidden)

    def cached(self, tensor: Tensor) -> Tensor:
        if self.precision.kv_bits is None:
            return tensor
        return last_dimension(tensor, self.precision.kv_bits, self.precision.kv_group, self.precision.range)

    def attention(self, block: LlamaAttention, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        tokens = hidden.shape[0]

        def heads(projected: Tensor) -> Tensor:
            return projected.view(tokens, -1, block.head_dim).transpose(0, 1)

        query = rotate(heads(self.linear(block.q_proj, hidden)), cos, sin)
        key = self.cached(rotate(heads(self.linear(block.k_proj, hidden)), cos, sin))
        value = self.cached(heads(self.linear(block.v_proj, hidden)))
        key = key.repeat_interleave(block.num_key_value_groups, dim=0)
        value = value.repeat_interleave(block.num_key_value_groups, dim=0)
        future = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
        scores = (query @ key.transpose(1, 2) * block.scaling).masked_fill(future, -torch.inf)
        mixed = scores.softmax(dim=-1) @ value
        return self.linear(block.o_proj, mixed.transpose(0, 1).reshape(tokens, -1))

    def mlp(self, block: LlamaMLP, hidden: Tensor) -> Tensor:
        gate, up = self.linear(block.gate_proj, hidden), self.linear(block.up_proj, hidden)
        return self.linear(block.down_proj, F.silu(gate) * up)

    @torch.no_grad()
    def logits(self, tokens: Tensor) -> Tensor:
        """Logits [token, vocabulary] of one sequence of token ids."""
        decoder = self.model.model
        hidden = decoder.embed_tokens(tokens)
        cos, sin = decoder.rotary_emb(hidden, torch.arange(len(tokens)).unsqueeze(0))
        for layer in decoder.layers:
            hidden = hidden + self.attention(layer.self_attn, self.norm(layer.input_layernorm, hidden), cos, sin)
            hidden = hidden + self.mlp(layer.mlp, self.norm(layer.post_attention_layernorm, hidden))
        return self.model.lm_head(self.norm(decoder.norm, hidden))


@torch.no_grad()
def assert_matches_transformers(model: LlamaForCausalLM, tokens: Tensor) -> None:
    """Assert that the unquantized pass gives the logits that Transformers gives for one sequence."""
    expected = model(tokens.unsqueeze(0), use_cache=False).logits[0]
    torch.testing.assert_close(FakeQuantizedLlama(model, Precision()).logits(tokens), expected, rtol=1e-4, atol=1e-4)
