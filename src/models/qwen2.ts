/**
 * Qwen2 (Yang et al. 2024): Llama's block with biases on queries, keys and values, and a sliding window in the upper
 * layers of some. Qwen1.5, Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen. Follows `modeling_qwen2.py` of Hugging Face
 * transformers.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
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
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(32_768))),
  rms_norm_eps: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1e-6))),
  hidden_act: Schema.Literal("silu").pipe(Schema.withDecodingDefaultKey(Effect.succeed("silu" as const))),
  tie_word_embeddings: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
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
  Schema.makeFilter((c) =>
    c.head_dim != null || c.hidden_size % c.num_attention_heads === 0
      ? undefined
      : `hidden_size ${c.hidden_size} is not a multiple of num_attention_heads ${c.num_attention_heads}; give head_dim`,
  ),
  Rotary.check,
  Schema.makeFilter((c) => Rotary.misfit(c, heads(c).dim)),
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

const heads = (c: Pick<Config, "num_attention_heads" | "num_key_value_heads" | "head_dim" | "hidden_size">) => ({
  query: c.num_attention_heads,
  keyValue: c.num_key_value_heads ?? c.num_attention_heads,
  dim: c.head_dim ?? c.hidden_size / c.num_attention_heads,
})

/** Tokens that a token sees in this layer; `undefined`: all. */
const window = (c: Config, layer: number): number | undefined => {
  const slides = c.layer_types == null ? layer >= c.max_window_layers : c.layer_types[layer] === "sliding_attention"
  return c.use_sliding_window && slides ? (c.sliding_window ?? undefined) : undefined
}

export default Family.make<Config>({
  covers: "Qwen1.5, Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen",
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
    const seen = window(c, layer)

    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      ...(seen !== undefined && { window: seen }),
      bias: true,
      output: { bias: false },
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
    is: (metadata) => Gguf.isOf(metadata, "qwen2"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("qwen2", metadata, shapes)
      return {
        ...sizes,
        ...Gguf.rope("qwen2", metadata, floats, sizes.head_dim),
        rms_norm_eps: Gguf.rmsNormEpsilon("qwen2", metadata),
      }
    },
    tensors: (name) => Gguf.tensors(name, Gguf.NAMES),
  },
})
