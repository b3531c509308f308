/**
 * Qwen3 (Yang et al. 2025), dense: Qwen2's block without its biases, and with every head of queries and keys normed
 * before it is turned. Follows `modeling_qwen3.py` of Hugging Face transformers.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import type { Value } from "../onnx/Graph.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Positive = Schema.Int.check(Schema.isGreaterThan(0))

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** Absent: 32. Null: as many as heads. */
  num_key_value_heads: Schema.NullOr(Positive).pipe(Schema.withDecodingDefaultKey(Effect.succeed(32))),
  head_dim: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(128))),
  vocab_size: Positive,
  max_position_embeddings: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(32_768))),
  rms_norm_eps: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1e-6))),
  hidden_act: Schema.Literal("silu").pipe(Schema.withDecodingDefaultKey(Effect.succeed("silu" as const))),
  tie_word_embeddings: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  attention_bias: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  use_sliding_window: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  sliding_window: Schema.NullOr(Positive).pipe(Schema.withDecodingDefaultKey(Effect.succeed(4096))),
  /** Layers below it see all tokens. */
  max_window_layers: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(28))),
  /** The newer spelling. */
  layer_types: Schema.optionalKey(
    Schema.NullOr(Schema.Array(Schema.Literals(["full_attention", "sliding_attention"]))),
  ),
  ...Rotary.fields,
}).check(
  Schema.makeFilter((c) =>
    c.num_attention_heads % (c.num_key_value_heads ?? c.num_attention_heads) === 0
      ? undefined
      : `num_attention_heads ${c.num_attention_heads} is not a multiple of num_key_value_heads ${c.num_key_value_heads}`,
  ),
  Rotary.check,
  Schema.makeFilter((c) => Rotary.misfit(c, c.head_dim)),
  Schema.makeFilter((c) =>
    (c.layer_types?.length ?? c.num_hidden_layers) === c.num_hidden_layers
      ? undefined
      : `layer_types names ${c.layer_types?.length} layers; num_hidden_layers is ${c.num_hidden_layers}`,
  ),
  Schema.makeFilter((c) =>
    !c.layer_types?.includes("sliding_attention") || (c.use_sliding_window && c.sliding_window !== null)
      ? undefined
      : "layer_types has sliding_attention, which needs use_sliding_window and sliding_window",
  ),
)
interface Config extends Schema.Schema.Type<typeof Config> {}

const heads = (c: Config) => ({
  query: c.num_attention_heads,
  keyValue: c.num_key_value_heads ?? c.num_attention_heads,
  dim: c.head_dim,
})

/** Tokens that a token sees in this layer; `undefined`: all. */
const window = (c: Config, layer: number): number | undefined => {
  const slides = c.layer_types == null ? layer >= c.max_window_layers : c.layer_types[layer] === "sliding_attention"
  return c.use_sliding_window && slides ? (c.sliding_window ?? undefined) : undefined
}

export default Family.make<Config>({
  covers: "Qwen3",
  config: Config,
  shape: (c) => ({
    layers: c.num_hidden_layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: Rotary.context(c, c.max_position_embeddings),
  }),
  tables: (c, length) => Rope.tables(Rotary.rope(c, c.max_position_embeddings), heads(c).dim, length),
  tableKey: (c, length) => Rotary.tableKey(c, c.max_position_embeddings, length),

  embed: (b, c, tokens) => b.lookup("model.embed_tokens", [c.vocab_size, c.hidden_size], tokens),

  block: (b, c, hidden, layer) => {
    const { dim } = heads(c)
    const seen = window(c, layer)
    /** Of each head's channels. */
    const normed = (site: string, rows: Value) => b.rmsNorm(site, dim, c.rms_norm_eps, b.flatten(rows, dim))

    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      ...(seen !== undefined && { window: seen }),
      bias: c.attention_bias,
      normed,
    })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const down = Decoder.gated(b, c, m)
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  head: (b, c, hidden) => Decoder.head(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden)),

  prefix: (layer) => `model.layers.${layer}.`,
  ignored: Decoder.ignored,
  rename: Decoder.rename,

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "qwen3"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("qwen3", metadata, shapes)
      return {
        ...sizes,
        ...Gguf.rope("qwen3", metadata, floats, sizes.head_dim),
        rms_norm_eps: Gguf.rmsNormEpsilon("qwen3", metadata),
        attention_bias: shapes.has("blk.0.attn_q.bias"),
      }
    },
    tensors: (name) => Gguf.tensors(name, NAMES),
  },
})

const NAMES = {
  ...Gguf.NAMES,
  attn_q_norm: "model.layers.N.self_attn.q_norm",
  attn_k_norm: "model.layers.N.self_attn.k_norm",
}
