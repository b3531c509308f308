/**
 * Qwen2 (Yang et al. 2024): Llama's block with biases on queries, keys and values, and a sliding window in the upper
 * layers of some. Qwen1.5, Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen. Follows `modeling_qwen2.py` of Hugging Face
 * transformers.
 */
import * as Schema from "effect/Schema"
import { evenGroups, evenHeadsOrDim, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"
import * as Sliding from "./Sliding.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  /** Absent: 32. Null: as many as heads. */
  num_key_value_heads: withDefault(Schema.NullOr(Positive), 32),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: size(32_768),
  rms_norm_eps: number(1e-6),
  hidden_act: oneOf("silu"),
  tie_word_embeddings: flag(false),
  ...Sliding.fields,
  ...Rotary.fields,
}).check(evenGroups, evenHeadsOrDim, Rotary.check, Rotary.wholeHeads, ...Sliding.checks)
type Config = typeof Config.Type

export default Family.make<Config>({
  covers: "Qwen1.5, Qwen2, Qwen2.5, QwQ, DeepSeek-R1-Distill-Qwen",
  config: Config,
  ...Decoder.frame,

  block: (b, c, hidden, layer) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      ...Sliding.window(c, layer),
      bias: true,
      output: { bias: false },
    })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const down = Decoder.gated(b, c, m)
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "qwen2"),
    config: (metadata, floats, shapes) => Gguf.decoder("qwen2", metadata, floats, shapes),
    tensors: (name) => Gguf.tensors(name, Gguf.NAMES),
  },
})
