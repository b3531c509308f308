/**
 * Llama (Touvron et al. 2023) and everything that shares its block: Llama 1/2/3.x, Vicuna, LongChat, TinyLlama, SmolLM.
 * Follows `modeling_llama.py` of Hugging Face transformers.
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
  num_key_value_heads: Schema.optionalKey(Schema.NullOr(Positive)),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: Positive.pipe(Schema.withDecodingDefaultKey(Effect.succeed(2048))),
  rms_norm_eps: Schema.Finite.pipe(Schema.withDecodingDefaultKey(Effect.succeed(1e-6))),
  hidden_act: Schema.Literal("silu").pipe(Schema.withDecodingDefaultKey(Effect.succeed("silu" as const))),
  tie_word_embeddings: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  attention_bias: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  mlp_bias: Schema.Boolean.pipe(Schema.withDecodingDefaultKey(Effect.succeed(false))),
  ...Rotary.fields,
  /** LongChat's spelling of linear scaling. */
  rope_condense_ratio: Schema.optionalKey(Schema.Finite),
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
  Schema.makeFilter((c) => Rotary.misfit(c, c.head_dim ?? c.hidden_size / c.num_attention_heads)),
  Schema.makeFilter((c) =>
    (c.rope_condense_ratio ?? 1) === 1 || Rotary.rope(c, c.max_position_embeddings).type === "default"
      ? undefined
      : "rope_condense_ratio and rope_scaling both scale the positions; give one",
  ),
)
type Config = typeof Config.Type

const heads = (c: Config) => ({
  query: c.num_attention_heads,
  keyValue: c.num_key_value_heads ?? c.num_attention_heads,
  dim: c.head_dim ?? c.hidden_size / c.num_attention_heads,
})

const rope = (c: Config): Rope.Rope => {
  const written = Rotary.rope(c, c.max_position_embeddings)
  const condensed = c.rope_condense_ratio ?? 1
  return condensed === 1 ? written : { type: "linear", theta: written.theta, factor: condensed }
}

export default Family.make<Config>({
  covers: "Llama 1 to 3.x, Vicuna, LongChat, TinyLlama, SmolLM",
  config: Config,
  shape: (c) => ({
    layers: c.num_hidden_layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: Rotary.context(c, c.max_position_embeddings),
  }),
  tables: (c, length) => Rope.tables(rope(c), heads(c).dim, length),
  tableKey: (c, length) => Rotary.tableKey(c, c.max_position_embeddings, length),

  embed: (b, c, tokens) => b.lookup("model.embed_tokens", [c.vocab_size, c.hidden_size], tokens),

  block: (b, c, hidden) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, { heads: heads(c), rotary: {}, bias: c.attention_bias })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const down = Decoder.gated(b, c, m, { bias: c.mlp_bias })
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  head: (b, c, hidden) => Decoder.head(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden)),

  prefix: (layer) => `model.layers.${layer}.`,
  ignored: Decoder.ignored,
  rename: Decoder.rename,

  gguf: {
    // So do Mistral's files, whose block is the same without a window, and they tell none; and Mixtral's, with experts.
    is: (metadata) => Gguf.isOf(metadata, "llama") && (metadata.get("llama.expert_count") ?? 0) === 0,
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("llama", metadata, shapes)
      return {
        ...sizes,
        ...Gguf.rope("llama", metadata, floats, sizes.head_dim),
        rms_norm_eps: Gguf.rmsNormEpsilon("llama", metadata),
        attention_bias: shapes.has("blk.0.attn_q.bias"),
        mlp_bias: shapes.has("blk.0.ffn_gate.bias"),
      }
    },
    tensors: (name, c) => Gguf.tensors(name, Gguf.NAMES, Gguf.unpermuted(heads(c))),
  },
})
