/**
 * Llama (Touvron et al. 2023) and everything that shares its block: Llama 1/2/3.x, Vicuna, LongChat, TinyLlama, SmolLM.
 * Follows `modeling_llama.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import { evenGroups, evenHeadsOrDim, flag, heads, number, oneOf, Positive, size } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  hidden_size: Positive,
  intermediate_size: Positive,
  num_hidden_layers: Positive,
  num_attention_heads: Positive,
  num_key_value_heads: Schema.optionalKey(Schema.NullOr(Positive)),
  head_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  vocab_size: Positive,
  max_position_embeddings: size(2048),
  rms_norm_eps: number(1e-6),
  hidden_act: oneOf("silu"),
  tie_word_embeddings: flag(false),
  attention_bias: flag(false),
  mlp_bias: flag(false),
  ...Rotary.fields,
  /** LongChat's spelling of linear scaling. */
  rope_condense_ratio: Schema.optionalKey(Schema.Finite),
}).check(
  evenGroups,
  evenHeadsOrDim,
  Rotary.check,
  Rotary.wholeHeads,
  Schema.makeFilter((c) =>
    (c.rope_condense_ratio ?? 1) === 1 || Rotary.rope(c, c.max_position_embeddings).type === "default"
      ? undefined
      : "rope_condense_ratio and rope_scaling both scale the positions; give one",
  ),
)
type Config = typeof Config.Type

const rope = (c: Config): Rope.Rope => {
  const written = Rotary.rope(c, c.max_position_embeddings)
  const condensed = c.rope_condense_ratio ?? 1
  return condensed === 1 ? written : { type: "linear", theta: written.theta, factor: condensed }
}

export default Family.make<Config>({
  covers: "Llama 1 to 3.x, Vicuna, LongChat, TinyLlama, SmolLM",
  config: Config,
  ...Decoder.frame,
  tables: (c, length) => Rope.tables(rope(c), heads(c).dim, length),

  block: (b, c, hidden) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x)
    const o = Decoder.attention(b, c, a, hidden, { heads: heads(c), rotary: {}, bias: c.attention_bias })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h)
    const down = Decoder.gated(b, c, m, { bias: c.mlp_bias })
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  gguf: {
    // So do Mistral's files, whose block is the same without a window, and they tell none; and Mixtral's, with experts.
    is: (metadata) => Gguf.isOf(metadata, "llama") && (metadata.get("llama.expert_count") ?? 0) === 0,
    config: (metadata, floats, shapes) => ({
      ...Gguf.decoder("llama", metadata, floats, shapes),
      attention_bias: shapes.has("blk.0.attn_q.bias"),
      mlp_bias: shapes.has("blk.0.ffn_gate.bias"),
    }),
    tensors: (name, c) => Gguf.tensors(name, Gguf.NAMES, Gguf.unpermuted(heads(c))),
  },
})
