/**
 * Mistral (Jiang et al. 2023): Llama's block with a sliding window. Mistral 7B, Nemo, Small, Zephyr.
 * Follows `modeling_mistral.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import { evenGroups, evenHeadsOrDim, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** Absent: 8. Null: as many as heads. */
  num_key_value_heads: withDefault(Schema.NullOr(Positive), 8),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: size(131_072),
  rms_norm_eps: number(1e-6),
  hidden_act: oneOf("silu"),
  tie_word_embeddings: flag(false),
  /** Absent: the first release's. Null: none. */
  sliding_window: withDefault(Schema.NullOr(Positive), 4096),
  ...Rotary.fields,
}).check(evenGroups, evenHeadsOrDim, Rotary.check, Rotary.wholeHeads)
type Config = typeof Config.Type

export default Family.make<Config>({
  covers: "Mistral 7B, Nemo, Small, Zephyr; their GGUF files say llama",
  config: Config,
  ...Decoder.frame,

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
})
