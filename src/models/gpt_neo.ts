/**
 * GPT-Neo (Black et al. 2021) and TinyStories (Eldan & Li 2023). Follows `modeling_gpt_neo.py` of Hugging Face
 * transformers: a layer sees all that is past or only a window of it, and scores are not scaled.
 */
import * as Schema from "effect/Schema"
import { flag, number, oneOf, Positive, sameUnderBoth, size } from "./Config.ts"
import * as Family from "./Family.ts"

const Kind = Schema.Literals(["global", "local"])
/** Kinds of layers in turn, and how often in a row: `[["global", "local"], 12]`. */
const Pattern = Schema.Tuple([Schema.NonEmptyArray(Kind), Positive])

/** The two names each of these sizes goes by. */
const SPELLINGS = [
  ["num_layers", "num_hidden_layers"],
  ["num_heads", "num_attention_heads"],
] as const

const Config = Schema.Struct({
  vocab_size: size(50_257),
  hidden_size: size(2048),
  num_layers: Schema.optionalKey(Positive),
  num_hidden_layers: Schema.optionalKey(Positive),
  num_heads: Schema.optionalKey(Positive),
  num_attention_heads: Schema.optionalKey(Positive),
  max_position_embeddings: size(2048),
  /** Four times the hidden state by default. */
  intermediate_size: Schema.optionalKey(Schema.NullOr(Positive)),
  attention_types: Schema.optionalKey(Schema.NullOr(Schema.Array(Pattern))),
  /** The same, layer by layer. */
  attention_layers: Schema.optionalKey(Schema.NullOr(Schema.Array(Kind))),
  /** Tokens that a token sees in a local layer, itself included. */
  window_size: size(256),
  activation_function: oneOf("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu", "relu"),
  layer_norm_epsilon: number(1e-5),
  tie_word_embeddings: flag(true),
}).check(
  sameUnderBoth(SPELLINGS),
  Schema.makeFilter((c) => {
    const { query } = sizes(c)
    return c.hidden_size % query === 0
      ? undefined
      : `hidden_size ${c.hidden_size} is not a multiple of num_heads ${query}`
  }),
  Schema.makeFilter((c) => {
    const { layers } = sizes(c)
    const { attention_layers: listed, attention_types: types } = c
    const counted = patterns(c).reduce((sum, [kinds, times]) => sum + kinds.length * times, 0)
    if (listed != null && listed.length !== layers)
      return `attention_layers has ${listed.length} entries, not num_layers ${layers}`
    if ((listed == null || types != null) && counted !== layers)
      return `attention_types makes ${counted} layers, not num_layers ${layers}`
    if (listed == null || types == null) return undefined
    const other = expand(types).findIndex((kind, i) => kind !== listed[i])
    return other === -1 ? undefined : `attention_types and attention_layers disagree on layer ${other}`
  }),
)
type Config = typeof Config.Type

const sizes = (c: { readonly [name in (typeof SPELLINGS)[number][number]]?: number }) => ({
  layers: c.num_layers ?? c.num_hidden_layers ?? 24,
  query: c.num_heads ?? c.num_attention_heads ?? 16,
})
const heads = (c: Config) => {
  const { query } = sizes(c)
  return { query, keyValue: query, dim: c.hidden_size / query }
}

type Patterns = ReadonlyArray<typeof Pattern.Type>
const patterns = (c: { readonly attention_types?: Patterns | null }): Patterns =>
  c.attention_types ?? [[["global", "local"], 12]]
const expand = (types: Patterns): ReadonlyArray<typeof Kind.Type> =>
  types.flatMap(([kinds, times]) => Array.from({ length: times }, () => kinds).flat())
const kinds = (c: Config) => c.attention_layers ?? expand(patterns(c))

export default Family.make<Config>({
  covers: "GPT-Neo, TinyStories",
  config: Config,
  shape: (c) => ({
    layers: sizes(c).layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: c.max_position_embeddings,
  }),

  embed: (b, c, tokens) => {
    const words = b.lookup("transformer.wte", [c.vocab_size, c.hidden_size], tokens)
    const table = [c.max_position_embeddings, c.hidden_size] as const
    return b.add(words, b.lookup("transformer.wpe", table, b.positions(), "position"))
  },

  block: (b, c, hidden, layer) => {
    const size = c.hidden_size
    const inner = c.intermediate_size ?? 4 * size

    const x = b.flatten(hidden, size)
    const a = b.layerNorm("ln_1", size, c.layer_norm_epsilon, x, { bias: true })
    const project = (name: string) =>
      b.unflatten(b.linear(`attn.attention.${name}`, [size, size], a, { bias: false }), size, hidden)
    const mixed = b.attention(project("q_proj"), project("k_proj"), project("v_proj"), {
      heads: heads(c),
      scale: 1,
      ...(kinds(c)[layer] === "local" && { window: c.window_size }),
    })
    const o = b.linear("attn.attention.out_proj", [size, size], b.flatten(mixed, size), { bias: true })
    const h = b.add(o, x)

    const m = b.layerNorm("ln_2", size, c.layer_norm_epsilon, h, { bias: true })
    const up = b.linear("mlp.c_fc", [inner, size], m, { bias: true })
    const active =
      c.activation_function === "relu" ? b.relu(up) : b.gelu(up, c.activation_function === "gelu" ? "none" : "tanh")
    return b.unflatten(b.add(h, b.linear("mlp.c_proj", [size, inner], active, { bias: true })), size, hidden)
  },

  head: (b, c, hidden) => {
    const tied = { bias: false, weight: "transformer.wte.weight" }
    const normed = b.layerNorm("transformer.ln_f", c.hidden_size, c.layer_norm_epsilon, hidden, { bias: true })
    return b.linear("lm_head", [c.vocab_size, c.hidden_size], normed, c.tie_word_embeddings ? tied : { bias: false })
  },

  prefix: (layer) => `transformer.h.${layer}.`,
  // A model saved without the head.
  rename: (name) => name.replace(/^(?=(?:wte|wpe|h|ln_f)\.)/, "transformer."),
  // Causal masks, as they were once stored.
  ignored: (c) =>
    c.tie_word_embeddings
      ? /^transformer\.h\.\d+\.attn\.attention\.(masked_)?bias$|^lm_head\.weight$/
      : /^transformer\.h\.\d+\.attn\.attention\.(masked_)?bias$/,
})
