/**
 * Gemma (Gemma Team 2024): Llama's block with gains of 1 + w, embeddings scaled by the root of their size, a tanh GELU, and
 * heads of their own size. Follows `modeling_gemma.py` of Hugging Face transformers.
 */
import * as Schema from "effect/Schema"
import { evenGroups, flag, heads, number, Positive, size } from "./Config.ts"
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
  num_key_value_heads: size(16),
  head_dim: size(256),
  vocab_size: Positive,
  max_position_embeddings: size(8192),
  rms_norm_eps: number(1e-6),
  /** The first checkpoints say `gelu` and mean its tanh. The other key is read by older code only, and has to agree. */
  hidden_act: Schema.optionalKey(Schema.Literals(["gelu", "gelu_pytorch_tanh"])),
  hidden_activation: Schema.optionalKey(Schema.NullOr(Schema.Literal("gelu_pytorch_tanh"))),
  attention_bias: flag(false),
  tie_word_embeddings: flag(true),
  ...Rotary.fields,
}).check(evenGroups, Rotary.check, Rotary.wholeHeads)
type Config = typeof Config.Type

export default Family.make<Config>({
  covers: "Gemma, CodeGemma",
  config: Config,
  ...Decoder.frame,

  embed: (b, c, tokens) => b.scale(Decoder.embed(b, c, tokens), Math.sqrt(c.hidden_size)),

  block: (b, c, hidden) => {
    const x = b.flatten(hidden, c.hidden_size)
    const a = b.rmsNorm("input_layernorm", c.hidden_size, c.rms_norm_eps, x, 1)
    const o = Decoder.attention(b, c, a, hidden, { heads: heads(c), rotary: {}, bias: c.attention_bias })
    const h = b.add(x, o)

    const m = b.rmsNorm("post_attention_layernorm", c.hidden_size, c.rms_norm_eps, h, 1)
    const down = Decoder.gated(b, c, m, { activation: "gelu" })
    return b.unflatten(b.add(h, down), c.hidden_size, hidden)
  },

  head: (b, c, hidden) => Decoder.logits(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden, 1)),

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "gemma"),
    config: (metadata, floats, shapes) => Gguf.decoder("gemma", metadata, floats, shapes),
    tensors: (name) => Gguf.tensors(name, Gguf.NAMES, Gguf.lessOne),
  },
})
