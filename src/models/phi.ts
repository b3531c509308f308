/**
 * Phi-1, Phi-1.5 and Phi-2 (Gunasekar et al. 2023, Li et al. 2023). Follows `modeling_phi.py` of Hugging Face
 * transformers: attention and MLP side by side after one norm, a part of each head turned by rotary positions, biases
 * throughout, the head included.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import type { Value } from "../onnx/Graph.ts"
import { evenGroups, evenHeads, flag, heads, number, oneOf, Positive, size } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  vocab_size: size(51_200),
  hidden_size: size(2048),
  intermediate_size: size(8192),
  num_hidden_layers: size(24),
  num_attention_heads: size(32),
  num_key_value_heads: Schema.optionalKey(Schema.NullOr(Positive)),
  max_position_embeddings: size(2048),
  hidden_act: oneOf("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu"),
  layer_norm_eps: number(1e-5),
  qk_layernorm: flag(false),
  tie_word_embeddings: flag(false),
  ...Rotary.fields,
}).check(
  evenHeads,
  evenGroups,
  Rotary.check,
  Schema.makeFilter((c) => {
    const turned = rotaryDim(c)
    return turned > 0 ? Rotary.misfit(c, turned) : "partial_rotary_factor leaves no channel of a head to be turned"
  }),
)
type Config = typeof Config.Type

const rotaryDim = (c: Config) => Rotary.rotaryDim(c, heads(c).dim, 0.5)

export default Family.make<Config>({
  covers: "Phi-1, Phi-1.5, Phi-2",
  config: Config,
  ...Decoder.frame,
  tables: (c, length) => Rope.tables(Rotary.rope(c, c.max_position_embeddings), rotaryDim(c), length),

  block: (b, c, hidden) => {
    const bias = { bias: true }
    const size = c.hidden_size
    const { dim, keyValue, query } = heads(c)

    const x = b.flatten(hidden, size)
    const a = b.layerNorm("input_layernorm", size, c.layer_norm_eps, x, bias)
    const project = (name: string, count: number) =>
      b.unflatten(b.linear(`self_attn.${name}`, [count * dim, size], a, bias), count * dim, hidden)
    // Each head by itself, with the same gain.
    const normed = (site: string, count: number, y: Value) =>
      c.qk_layernorm
        ? b.reshape(
            b.layerNorm(`self_attn.${site}`, dim, c.layer_norm_eps, b.reshape(y, 0, 0, count, dim), bias),
            0,
            0,
            count * dim,
          )
        : y
    const q = normed("q_layernorm", query, project("q_proj", query))
    const k = normed("k_layernorm", keyValue, project("k_proj", keyValue))
    const v = project("v_proj", keyValue)
    const mixed = b.attention(q, k, v, { heads: heads(c), rotary: { dim: rotaryDim(c) } })
    const o = b.linear("self_attn.dense", [size, query * dim], b.flatten(mixed, query * dim), bias)

    const up = b.gelu(
      b.linear("mlp.fc1", [c.intermediate_size, size], a, bias),
      c.hidden_act === "gelu" ? "none" : "tanh",
    )
    const down = b.linear("mlp.fc2", [size, c.intermediate_size], up, bias)
    return b.unflatten(b.add(b.add(o, down), x), size, hidden)
  },

  head: (b, c, hidden) =>
    b.linear(
      "lm_head",
      [c.vocab_size, c.hidden_size],
      b.layerNorm("model.final_layernorm", c.hidden_size, c.layer_norm_eps, hidden, { bias: true }),
      c.tie_word_embeddings ? { bias: true, weight: "model.embed_tokens.weight" } : { bias: true },
    ),

  // Checkpoints of the bare model lack the prefix.
  rename: (name) => name.replace(/^(?=(embed_tokens|layers|final_layernorm)\.)/, "model."),

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "phi2"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("phi2", metadata, shapes)
      const { count, part } = Gguf.turned("phi2", metadata, sizes.head_dim)
      return {
        ...sizes,
        ...Gguf.rope("phi2", metadata, floats, count),
        partial_rotary_factor: part,
        layer_norm_eps: Gguf.layerNormEpsilon("phi2", metadata),
      }
    },
    // The first weights of Phi-2 had queries, keys and values, of equal sizes, in one matrix.
    tensors: (name) => {
      const [, layer, suffix] = /^blk\.(\d+)\.attn_qkv\.(weight|bias)$/.exec(name) ?? []
      return layer === undefined
        ? Gguf.tensors(name, NAMES)
        : ["q_proj", "k_proj", "v_proj"].map((site, index) => ({
            name: `model.layers.${layer}.self_attn.${site}.${suffix}`,
            part: { index, of: 3 },
          }))
    },
  },
})

const NAMES = {
  ...Gguf.ROPE,
  token_embd: "model.embed_tokens",
  output_norm: "model.final_layernorm",
  output: "lm_head",
  attn_norm: "model.layers.N.input_layernorm",
  attn_q: "model.layers.N.self_attn.q_proj",
  attn_k: "model.layers.N.self_attn.k_proj",
  attn_v: "model.layers.N.self_attn.v_proj",
  attn_output: "model.layers.N.self_attn.dense",
  ffn_up: "model.layers.N.mlp.fc1",
  ffn_down: "model.layers.N.mlp.fc2",
}
