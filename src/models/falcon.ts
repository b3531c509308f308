/**
 * Falcon (Almazrouei et al. 2023) in its three builds: 7B (one key-value head, attention and feed-forward side by side),
 * 40B and 180B (`new_decoder_architecture`: groups of queries share a key and a value), and the RW models (ALiBi, one
 * half after the other, biases). Follows `modeling_falcon.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Alibi from "../math/Alibi.ts"
import { toBFloat16 } from "../math/Half.ts"
import * as Rope from "../math/Rope.ts"
import type { Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import { flag, number, oneOf, Positive, size } from "./Config.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  num_kv_heads: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  ffn_hidden_size: Schema.optionalKey(Schema.NullOr(Positive)),
  layer_norm_epsilon: number(1e-5),
  alibi: flag(false),
  new_decoder_architecture: flag(false),
  multi_query: flag(true),
  parallel_attn: flag(true),
  bias: flag(false),
  num_ln_in_parallel_attn: Schema.optionalKey(Schema.NullOr(Schema.Literals([1, 2]))),
  activation: oneOf("gelu"),
  max_position_embeddings: size(2048),
  tie_word_embeddings: flag(true),
  ...Rotary.fields,
}).check(
  Schema.makeFilter((c) => {
    const { keyValue, query } = heads(c)
    if (c.hidden_size % query !== 0) return `hidden_size ${c.hidden_size} is not a multiple of ${query} heads`
    if (query % keyValue !== 0) return `${query} heads are not a multiple of num_kv_heads ${keyValue}`
    return c.new_decoder_architecture && !c.parallel_attn
      ? "new_decoder_architecture without parallel_attn is no Falcon"
      : undefined
  }),
  Rotary.check,
  Schema.makeFilter((c) => (c.alibi ? undefined : Rotary.misfit(c, heads(c).dim))),
)
type Config = typeof Config.Type

type Heads = Pick<
  Config,
  "hidden_size" | "num_attention_heads" | "num_kv_heads" | "new_decoder_architecture" | "multi_query"
>
const heads = (c: Heads) => {
  const query = c.num_attention_heads
  const grouped = c.num_kv_heads ?? query
  const keyValue = c.new_decoder_architecture ? grouped : c.multi_query ? 1 : query
  return { query, keyValue, dim: c.hidden_size / query }
}

/** Norms before the two halves of a block that run side by side: of the new architecture two, of the others one. */
const norms = (c: Config) => (c.new_decoder_architecture ? (c.num_ln_in_parallel_attn ?? 2) : 1)

/** The old names of these sizes, and today's. */
const SPELLINGS = [
  ["n_layer", "num_hidden_layers"],
  ["n_head", "num_attention_heads"],
  ["n_head_kv", "num_kv_heads"],
  ["n_embed", "hidden_size"],
] as const

const respelled = (config: Family.Raw): Family.Raw => {
  const known: { [key: string]: unknown } = {}
  for (const [old, name] of SPELLINGS) {
    const value = config[old]
    if (value == null) continue
    if ((config[name] ?? value) !== value)
      throw new Error(`${old} ${String(value)} and ${name} ${String(config[name])} are the same size under two names`)
    known[name] = value
  }
  return { ...config, ...known }
}

/**
 * With the defaults of the code the first weights came with. That of the 40B alone has n_head_kv: groups of queries are
 * the new architecture, which no key named then.
 */
const first = (config: Family.Raw): Family.Raw => {
  const grouped = config["n_head_kv"] != null || config["num_kv_heads"] != null
  return { multi_query: false, parallel_attn: grouped, new_decoder_architecture: grouped, ...respelled(config) }
}

export default Family.make<Config>({
  covers: "Falcon 7B, 40B, 180B, Falcon-RW",
  aliases: { falcon: respelled, RefinedWebModel: first, RefinedWeb: first },
  config: Config,
  shape: (c) => ({
    layers: c.num_hidden_layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: c.alibi ? c.max_position_embeddings : Rotary.context(c, c.max_position_embeddings),
  }),
  tables: (c, length) => {
    const { dim, query } = heads(c)
    if (!c.alibi) return Rope.tables(Rotary.rope(c, c.max_position_embeddings), dim, length)
    // Slopes and products are rounded to bfloat16 in the reference, and scaled with the scores.
    const { columns, values } = Alibi.table(query, length, toBFloat16)
    return { alibi: { columns, values: values.map((value) => value / Math.sqrt(dim)) } }
  },
  tableKey: (c, length) => (c.alibi ? 0 : Rotary.tableKey(c, c.max_position_embeddings, length)),

  embed: (b, c, tokens) => b.lookup("transformer.word_embeddings", [c.vocab_size, c.hidden_size], tokens),

  block: (b, c, hidden) => {
    const size = c.hidden_size
    const bias = { bias: c.bias }
    const norm = (site: string, x: Value) => b.layerNorm(site, size, c.layer_norm_epsilon, x, { bias: true })

    const x = b.flatten(hidden, size)
    const two = norms(c) === 2
    const a = norm(two ? "ln_attn" : "input_layernorm", x)
    const { dim, keyValue, query } = heads(c)
    const fused = b.linear("self_attention.query_key_value", [(query + 2 * keyValue) * dim, size], a, bias)
    const [q, k, v] = parts(b, c, b.unflatten(fused, (query + 2 * keyValue) * dim, hidden))
    const mixed = b.attention(q!, k!, v!, { heads: heads(c), ...(c.alibi ? { alibi: "alibi" } : { rotary: {} }) })
    const o = b.linear("self_attention.dense", [size, size], b.flatten(mixed, size), bias)

    const h = b.add(o, x)
    const m = c.parallel_attn ? (two ? norm("ln_mlp", x) : a) : norm("post_attention_layernorm", h)
    const wide = c.ffn_hidden_size ?? 4 * size
    const up = b.gelu(b.linear("mlp.dense_h_to_4h", [wide, size], m, bias), "none")
    const down = b.linear("mlp.dense_4h_to_h", [size, wide], up, bias)
    return b.unflatten(b.add(down, h), size, hidden)
  },

  head: (b, c, hidden) => {
    const normed = b.layerNorm("transformer.ln_f", c.hidden_size, c.layer_norm_epsilon, hidden, { bias: true })
    const tied = { bias: false, weight: "transformer.word_embeddings.weight" }
    return b.linear("lm_head", [c.vocab_size, c.hidden_size], normed, c.tie_word_embeddings ? tied : { bias: false })
  },

  prefix: (layer) => `transformer.h.${layer}.`,
  // Checkpoints of the bare model lack the prefix.
  rename: (name) => name.replace(/^(?=(word_embeddings|h|ln_f)\.)/, "transformer."),
  ignored: (c) =>
    c.tie_word_embeddings
      ? /^transformer\.h\.\d+\.self_attention\.rotary_emb\.inv_freq$|^lm_head\.weight$/
      : /^transformer\.h\.\d+\.self_attention\.rotary_emb\.inv_freq$/,

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "falcon"),
    // The converter knows no ALiBi and no biases. Of the new architecture are those with two norms or several groups.
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("falcon", metadata, shapes)
      const two = shapes.has("blk.0.attn_norm_2.weight")
      return {
        ...sizes,
        ...Gguf.rope("falcon", metadata, floats, sizes.head_dim),
        num_kv_heads: sizes.num_key_value_heads,
        ffn_hidden_size: sizes.intermediate_size,
        layer_norm_epsilon: Gguf.layerNormEpsilon("falcon", metadata),
        new_decoder_architecture: two || sizes.num_key_value_heads > 1,
        num_ln_in_parallel_attn: two ? 2 : 1,
      }
    },
    tensors: (name, c) => {
      const { keyValue, query } = heads(c)
      const table = norms(c) === 2 ? { ...NAMES, ...TWO_NORMS } : NAMES
      return Gguf.tensors(name, table, Gguf.regrouped(keyValue, [query / keyValue, 1, 1]))
    },
  },
})

const NAMES = {
  ...Gguf.ROPE,
  token_embd: "transformer.word_embeddings",
  output_norm: "transformer.ln_f",
  output: "lm_head",
  attn_norm: "transformer.h.N.input_layernorm",
  attn_qkv: "transformer.h.N.self_attention.query_key_value",
  attn_output: "transformer.h.N.self_attention.dense",
  ffn_up: "transformer.h.N.mlp.dense_h_to_4h",
  ffn_down: "transformer.h.N.mlp.dense_4h_to_h",
}
/** The second is the one before attention. */
const TWO_NORMS = { attn_norm: "transformer.h.N.ln_mlp", attn_norm_2: "transformer.h.N.ln_attn" }

/** Queries, keys and values of the fused product: in each of the groups its queries, then its key, then its value. */
const parts = (b: Block, c: Config, fused: Value): ReadonlyArray<Value> => {
  const { dim, keyValue, query } = heads(c)
  const each = query / keyValue
  const grouped = b.reshape(fused, 0, 0, keyValue, (each + 2) * dim)
  return b
    .split(grouped, [each * dim, dim, dim])
    .map((part, i) => b.reshape(part, 0, 0, i === 0 ? query * dim : keyValue * dim))
}
