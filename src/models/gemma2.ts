/**
 * Gemma 2 (Gemma Team 2024): Gemma with a norm before and after both halves of the block, every other layer seeing a
 * window only, scores of their own scale, and soft caps on scores and logits. Follows `modeling_gemma2.py` of Hugging Face
 * transformers.
 */
import * as Schema from "effect/Schema"
import { evenGroups, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** A wrong default here does not fit the shapes of queries and keys. */
  num_key_value_heads: size(4),
  head_dim: size(256),
  vocab_size: Positive,
  max_position_embeddings: size(8192),
  rms_norm_eps: number(1e-6),
  hidden_activation: oneOf("gelu_pytorch_tanh"),
  query_pre_attn_scalar: number(256),
  sliding_window: withDefault(Schema.NullOr(Positive), 4096),
  /** By default every other layer slides, beginning with the first. */
  layer_types: Schema.optionalKey(
    Schema.NullOr(Schema.Array(Schema.Literals(["sliding_attention", "full_attention"]))),
  ),
  attn_logit_softcapping: withDefault(Schema.NullOr(Schema.Finite), 50),
  final_logit_softcapping: withDefault(Schema.NullOr(Schema.Finite), 30),
  attention_bias: flag(false),
  tie_word_embeddings: flag(true),
  ...Rotary.fields,
}).check(
  evenGroups,
  Rotary.check,
  Rotary.wholeHeads,
  Schema.makeFilter((c) =>
    c.layer_types == null || c.layer_types.length === c.num_hidden_layers
      ? undefined
      : `layer_types names ${c.layer_types.length} layers, num_hidden_layers is ${c.num_hidden_layers}`,
  ),
)
type Config = typeof Config.Type

const slides = (c: Config, layer: number) =>
  c.layer_types == null ? layer % 2 === 0 : c.layer_types[layer] === "sliding_attention"

export default Family.make<Config>({
  covers: "Gemma 2",
  config: Config,
  ...Decoder.frame,

  embed: (b, c, tokens) => b.scale(Decoder.embed(b, c, tokens), Math.sqrt(c.hidden_size)),

  block: (b, c, hidden, layer) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x, 1)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      scale: 1 / Math.sqrt(c.query_pre_attn_scalar),
      ...(slides(c, layer) && c.sliding_window !== null && { window: c.sliding_window }),
      ...(c.attn_logit_softcapping !== null && { softcap: c.attn_logit_softcapping }),
      bias: c.attention_bias,
    })
    const h = b.add(x, b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, o, 1))

    const m = b.rmsNorm("pre_feedforward_layernorm", c.hidden_size, c.rms_norm_eps, h, 1)
    const down = Decoder.gated(b, c, m, { activation: "gelu" })
    const out = b.rmsNorm("post_feedforward_layernorm", c.hidden_size, c.rms_norm_eps, down, 1)
    return b.unflatten(b.add(h, out), c.hidden_size, hidden)
  },

  head: (b, c, hidden) => {
    const logits = Decoder.logits(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden, 1))
    return c.final_logit_softcapping === null ? logits : b.softcap(logits, c.final_logit_softcapping)
  },

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "gemma2"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("gemma2", metadata, shapes)
      const { head_dim, hidden_size, num_attention_heads, num_hidden_layers } = sizes
      return {
        ...sizes,
        ...Gguf.rope("gemma2", metadata, floats, head_dim),
        ...Gguf.sliding("gemma2", metadata, num_hidden_layers, 2),
        rms_norm_eps: Gguf.rmsNormEpsilon("gemma2", metadata),
        // No key says it: the 27B, of 46 layers, divides by the share of a head in the hidden state, others by its size.
        query_pre_attn_scalar: num_hidden_layers === 46 ? hidden_size / num_attention_heads : head_dim,
        sliding_window: Gguf.number(metadata, "gemma2.attention.sliding_window") ?? 4096,
        attn_logit_softcapping: Gguf.number(metadata, "gemma2.attn_logit_softcapping") ?? 50,
        final_logit_softcapping: Gguf.number(metadata, "gemma2.final_logit_softcapping") ?? 30,
      }
    },
    tensors: (name) => Gguf.tensors(name, Gguf.FOUR_NORMS, Gguf.lessOne),
  },
})
