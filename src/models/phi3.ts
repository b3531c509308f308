/**
 * Phi-3 (Abdin et al. 2024): Llama's block with queries, keys and values in one product, gate and up in another, and
 * positions that may turn part of a head. Phi-3-mini, Phi-3-medium, Phi-3.5-mini, Phi-4, Phi-4-mini. Follows
 * `modeling_phi3.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import { evenGroups, evenHeadsOrDim, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  num_key_value_heads: Schema.optionalKey(Schema.NullOr(Positive)),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: size(4096),
  rms_norm_eps: number(1e-5),
  hidden_act: oneOf("silu"),
  tie_word_embeddings: flag(false),
  sliding_window: withDefault(Schema.NullOr(Positive), null),
  ...Rotary.fields,
  original_max_position_embeddings: size(4096),
}).check(
  evenGroups,
  evenHeadsOrDim,
  Rotary.check,
  Schema.makeFilter((c) => Rotary.misfit(c, turned(c))),
  Schema.makeFilter((c) => {
    const { type } = Rotary.rope(c, c.max_position_embeddings)
    return type === "default" || type === "longrope" ? undefined : `rope type '${type}'; Phi-3 has default and longrope`
  }),
)
type Config = typeof Config.Type

/** Leading channels of a head that are turned. */
const turned = (c: Config) => Rotary.rotaryDim(c, heads(c).dim)

export default Family.make<Config>({
  covers: "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini",
  config: Config,
  ...Decoder.frame,
  tables: (c, length) => Rope.tables(Rotary.rope(c, c.max_position_embeddings), turned(c), length),

  block: (b, c, hidden) => {
    const { dim, keyValue, query } = heads(c)
    const plain = { bias: false }

    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const sizes = [query * dim, keyValue * dim, keyValue * dim]
    const all = (query + 2 * keyValue) * dim
    const qkv = b.linear("self_attn.qkv_proj", [all, c.hidden_size], a, plain)
    const [q, k, v] = b.split(b.unflatten(qkv, all, hidden), sizes)
    const mixed = b.attention(q!, k!, v!, {
      heads: heads(c),
      rotary: { dim: turned(c) },
      ...(c.sliding_window !== null && { window: c.sliding_window }),
    })
    const o = b.linear("self_attn.o_proj", [c.hidden_size, query * dim], b.flatten(mixed, query * dim), plain)
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const both = b.linear("mlp.gate_up_proj", [2 * c.intermediate_size, c.hidden_size], m, plain)
    const [gate, up] = b.split(both, [c.intermediate_size, c.intermediate_size])
    const inner = b.multiply(b.silu(gate!), up!)
    const down = b.linear("mlp.down_proj", [c.hidden_size, c.intermediate_size], inner, plain)
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "phi3"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("phi3", metadata, shapes)
      const { count, part } = Gguf.turned("phi3", metadata, sizes.head_dim)
      return {
        ...sizes,
        ...Gguf.rope("phi3", metadata, floats, count),
        partial_rotary_factor: part,
        rms_norm_eps: Gguf.rmsNormEpsilon("phi3", metadata),
        // Zero where there is no window.
        sliding_window: Gguf.number(metadata, "phi3.attention.sliding_window") || null,
      }
    },
    tensors: (name) => Gguf.tensors(name, NAMES),
  },
})

const NAMES = {
  ...Gguf.ROPE,
  token_embd: "model.embed_tokens",
  output_norm: "model.norm",
  output: "lm_head",
  attn_norm: "model.layers.N.input_layernorm",
  attn_qkv: "model.layers.N.self_attn.qkv_proj",
  attn_output: "model.layers.N.self_attn.o_proj",
  ffn_norm: "model.layers.N.post_attention_layernorm",
  ffn_up: "model.layers.N.mlp.gate_up_proj",
  ffn_down: "model.layers.N.mlp.down_proj",
}
