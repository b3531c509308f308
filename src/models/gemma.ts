/**
 * Gemma (Gemma Team 2024): Llama's block with gains of 1 + w, embeddings scaled by the root of their size, a tanh GELU, and
 * heads of their own size. Follows `modeling_gemma.py` of Hugging Face transformers.
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
  /** A wrong default here does not fit the shapes of queries and keys. */
  num_key_value_heads: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(16))),
  head_dim: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(256))),
  vocab_size: Positive,
  max_position_embeddings: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(8192))),
  rms_norm_eps: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1e-6))),
  /** The first checkpoints say `gelu` and mean its tanh. The other key is read by older code only, and has to agree. */
  hidden_act: Schema.optionalKey(Schema.Literals(["gelu", "gelu_pytorch_tanh"])),
  hidden_activation: Schema.optionalKey(Schema.NullOr(Schema.Literal("gelu_pytorch_tanh"))),
  attention_bias: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  tie_word_embeddings: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(true))),
  ...Rotary.fields,
}).check(
  Schema.makeFilter((c) =>
    c.num_attention_heads % c.num_key_value_heads === 0
      ? undefined
      : `num_attention_heads ${c.num_attention_heads} is not a multiple of num_key_value_heads ${c.num_key_value_heads}`,
  ),
  Rotary.check,
  Schema.makeFilter((c) => Rotary.misfit(c, c.head_dim)),
)
type Config = typeof Config.Type

const heads = (c: Config) => ({ query: c.num_attention_heads, keyValue: c.num_key_value_heads, dim: c.head_dim })

export default Family.make<Config>({
  covers: "Gemma, CodeGemma",
  config: Config,
  shape: (c) => ({
    layers: c.num_hidden_layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: Rotary.context(c, c.max_position_embeddings),
  }),
  tables: (c, length) => Rope.tables(Rotary.rope(c, c.max_position_embeddings), c.head_dim, length),
  tableKey: (c, length) => Rotary.tableKey(c, c.max_position_embeddings, length),

  embed: (b, c, tokens) =>
    b.scale(b.lookup("model.embed_tokens", [c.vocab_size, c.hidden_size], tokens), Math.sqrt(c.hidden_size)),

  block: (b, c, hidden) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x, 1)
    const o = Decoder.attention(b, c, a, hidden, { heads: heads(c), rotary: {}, bias: c.attention_bias })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h, 1)
    const down = Decoder.gated(b, c, m, { activation: "gelu" })
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  head: (b, c, hidden) => Decoder.head(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden, 1)),

  prefix: (layer) => `model.layers.${layer}.`,
  ignored: Decoder.ignored,
  rename: Decoder.rename,

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "gemma"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("gemma", metadata, shapes)
      return {
        ...sizes,
        ...Gguf.rope("gemma", metadata, floats, sizes.head_dim),
        rms_norm_eps: Gguf.rmsNormEpsilon("gemma", metadata),
      }
    },
    tensors: (name) => Gguf.tensors(name, Gguf.NAMES, Gguf.lessOne),
  },
})
