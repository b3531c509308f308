/**
 * Qwen3 (Yang et al. 2025), dense: Qwen2's block without its biases, and with every head of queries and keys normed
 * before it is turned. Follows `modeling_qwen3.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import type { Value } from "../onnx/Graph.ts"
import { evenGroups, flag, heads, number, oneOf, Positive, size, withDefault } from "./Config.ts"
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
  head_dim: size(128),
  vocab_size: Positive,
  max_position_embeddings: size(32_768),
  rms_norm_eps: number(1e-6),
  hidden_act: oneOf("silu"),
  tie_word_embeddings: flag(false),
  attention_bias: flag(false),
  ...Sliding.fields,
  ...Rotary.fields,
}).check(evenGroups, Rotary.check, Rotary.wholeHeads, ...Sliding.checks)
type Config = typeof Config.Type

export default Family.make<Config>({
  covers: "Qwen3",
  config: Config,
  ...Decoder.frame,

  block: (b, c, hidden, layer) => {
    const { dim } = heads(c)
    /** Of each head's channels. */
    const normed = (site: string, rows: Value) => b.rmsNorm(site, dim, c.rms_norm_eps, b.flatten(rows, dim))

    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, {
      heads: heads(c),
      rotary: {},
      ...Sliding.window(c, layer),
      bias: c.attention_bias,
      normed,
    })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const down = Decoder.gated(b, c, m)
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "qwen3"),
    config: (metadata, floats, shapes) => ({
      ...Gguf.decoder("qwen3", metadata, floats, shapes),
      attention_bias: shapes.has("blk.0.attn_q.bias"),
    }),
    tensors: (name) => Gguf.tensors(name, NAMES),
  },
})

const NAMES = {
  ...Gguf.NAMES,
  attn_q_norm: "model.layers.N.self_attn.q_norm",
  attn_k_norm: "model.layers.N.self_attn.k_norm",
}
