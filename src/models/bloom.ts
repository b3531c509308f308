/**
 * BLOOM and BLOOMZ (BigScience 2022): ALiBi instead of positions, a norm after the embedding, queries, keys and values of
 * each head next to each other in one product. Follows `modeling_bloom.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Alibi from "../math/Alibi.ts"
import { flag, number, Positive, size } from "./Config.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"

const Config = Schema.Struct({
  hidden_size: Schema.optionalKey(Positive),
  /** The older spelling of hidden_size. */
  n_embed: Schema.optionalKey(Positive),
  n_layer: Schema.optionalKey(Positive),
  num_hidden_layers: Schema.optionalKey(Positive),
  n_head: Schema.optionalKey(Positive),
  num_attention_heads: Schema.optionalKey(Positive),
  vocab_size: Positive,
  seq_length: size(2048),
  layer_norm_epsilon: number(1e-5),
  apply_residual_connection_post_layernorm: flag(false),
  tie_word_embeddings: flag(true),
}).check(
  Schema.makeFilter((c) => {
    if ((c.hidden_size ?? c.n_embed) === undefined) return "needs hidden_size (or n_embed, its older spelling)"
    if ((c.n_layer ?? c.num_hidden_layers) === undefined) return "needs n_layer"
    if ((c.n_head ?? c.num_attention_heads) === undefined) return "needs n_head (or num_attention_heads)"
    const { heads, hidden } = sizes(c)
    return hidden % heads === 0 ? undefined : `hidden_size ${hidden} is not a multiple of n_head ${heads}`
  }),
)
type Config = typeof Config.Type

type Sizes = Pick<
  Config,
  "hidden_size" | "n_embed" | "n_layer" | "num_hidden_layers" | "n_head" | "num_attention_heads"
>
const sizes = (c: Sizes) => ({
  hidden: (c.n_embed ?? c.hidden_size)!,
  layers: (c.n_layer ?? c.num_hidden_layers)!,
  heads: (c.n_head ?? c.num_attention_heads)!,
})

export default Family.make<Config>({
  covers: "BLOOM, BLOOMZ",
  config: Config,
  shape: (c) => {
    const { heads, hidden, layers } = sizes(c)
    return {
      layers,
      hidden,
      vocabulary: c.vocab_size,
      memory: { kind: "keyValue", heads: { query: heads, keyValue: heads, dim: hidden / heads } },
      context: c.seq_length,
    }
  },
  tables: (c, length) => ({ alibi: Alibi.table(sizes(c).heads, length) }),

  embed: (b, c, tokens) => {
    const { hidden } = sizes(c)
    const rows = b.lookup("transformer.word_embeddings", [c.vocab_size, hidden], tokens)
    return b.layerNorm("transformer.word_embeddings_layernorm", hidden, c.layer_norm_epsilon, rows, { bias: true })
  },

  block: (b, c, hidden) => {
    const { heads, hidden: size } = sizes(c)
    const dim = size / heads
    const bias = { bias: true }

    const x = b.flatten(hidden, size)
    const a = b.layerNorm("input_layernorm", size, c.layer_norm_epsilon, x, bias)
    const fused = b.linear("self_attention.query_key_value", [3 * size, size], a, bias)
    const parts = b.split(b.reshape(b.unflatten(fused, 3 * size, hidden), 0, 0, heads, 3 * dim), [dim, dim, dim])
    const [q, k, v] = parts.map((part) => b.reshape(part, 0, 0, size))
    const mixed = b.attention(q!, k!, v!, { heads: { query: heads, keyValue: heads, dim }, alibi: "alibi" })
    const o = b.linear("self_attention.dense", [size, size], b.flatten(mixed, size), bias)
    const h = b.add(o, c.apply_residual_connection_post_layernorm ? a : x)

    const m = b.layerNorm("post_attention_layernorm", size, c.layer_norm_epsilon, h, bias)
    const up = b.gelu(b.linear("mlp.dense_h_to_4h", [4 * size, size], m, bias), "tanh")
    const down = b.linear("mlp.dense_4h_to_h", [size, 4 * size], up, bias)
    return b.unflatten(b.add(down, c.apply_residual_connection_post_layernorm ? m : h), size, hidden)
  },

  head: (b, c, hidden) => {
    const { hidden: size } = sizes(c)
    const normed = b.layerNorm("transformer.ln_f", size, c.layer_norm_epsilon, hidden, { bias: true })
    const tied = { bias: false, weight: "transformer.word_embeddings.weight" }
    return b.linear("lm_head", [c.vocab_size, size], normed, c.tie_word_embeddings ? tied : { bias: false })
  },

  prefix: (layer) => `transformer.h.${layer}.`,
  // The checkpoints of the BLOOM team name the bare model's tensors.
  rename: (name) => name.replace(/^(?=word_embeddings|h\.|ln_f\.)/, "transformer."),
  ignored: (c) => (c.tie_word_embeddings ? /^lm_head\.weight$/ : /$^/),

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "bloom"),
    config: (metadata, _floats, shapes) => {
      const { max_position_embeddings: seq_length, ...sizes } = Gguf.sizes("bloom", metadata, shapes)
      return { ...sizes, seq_length, layer_norm_epsilon: Gguf.layerNormEpsilon("bloom", metadata) }
    },
    tensors: (name, c) => Gguf.tensors(name, NAMES, Gguf.regrouped(sizes(c).heads, [1, 1, 1])),
  },
})

const NAMES = {
  token_embd: "transformer.word_embeddings",
  token_embd_norm: "transformer.word_embeddings_layernorm",
  output_norm: "transformer.ln_f",
  output: "lm_head",
  attn_norm: "transformer.h.N.input_layernorm",
  attn_qkv: "transformer.h.N.self_attention.query_key_value",
  attn_output: "transformer.h.N.self_attention.dense",
  ffn_norm: "transformer.h.N.post_attention_layernorm",
  ffn_up: "transformer.h.N.mlp.dense_h_to_4h",
  ffn_down: "transformer.h.N.mlp.dense_4h_to_h",
}
