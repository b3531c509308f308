/**
 * Mistral (Jiang et al. 2023): Llama's block with a sliding window. Mistral 7B, Nemo, Small, Zephyr.
 * Follows `modeling_mistral.py` of Hugging Face transformers.
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Rotary from "./Rotary.ts"

const Positive = Schema.Int.check(Schema.isGreaterThan(0))

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** Absent: 8. Null: as many as heads. */
  num_key_value_heads: Schema.NullOr(Positive).pipe(Schema.withDecodingDefaultKey(Effect.succeed(8))),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(131_072))),
  rms_norm_eps: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1e-6))),
  hidden_act: Schema.Literal("silu").pipe(Schema.withDecodingDefaultKey(Effect.succeed("silu" as const))),
  tie_word_embeddings: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  /** Absent: the first release's. Null: none. */
  sliding_window: Schema.NullOr(Positive).pipe(Schema.withDecodingDefaultKey(Effect.succeed(4096))),
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
)
interface Config extends Schema.Schema.Type<typeof Config> {}

const heads = (c: Pick<Config, "num_attention_heads" | "num_key_value_heads" | "head_dim" | "hidden_size">) => ({
  query: c.num_attention_heads,
  keyValue: c.num_key_value_heads ?? c.num_attention_heads,
  dim: c.head_dim ?? c.hidden_size / c.num_attention_heads,
})

export default Family.make<Config>({
  covers: "Mistral 7B, Nemo, Small, Zephyr; their GGUF files say llama",
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

  block: (b, c, hidden) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      ...(c.sliding_window !== null && { window: c.sliding_window }),
      bias: false,
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
})
