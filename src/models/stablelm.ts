/**
 * StableLM 3B-4E1T and StableLM 2 (Bellagente et al. 2024), Stable Code among them. Follows `modeling_stablelm.py` of
 * Hugging Face transformers: Llama's block with layer norms that have biases, a part of each head turned by rotary
 * positions; in the 12B, attention and MLP side by side after one norm, and a norm for each head of queries and keys.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import type { Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import { evenGroups, evenHeads, flag, heads, oneOf, size } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  vocab_size: size(50_304),
  hidden_size: size(2560),
  intermediate_size: size(6912),
  num_hidden_layers: size(32),
  num_attention_heads: size(32),
  num_key_value_heads: size(32),
  max_position_embeddings: size(4096),
  hidden_act: oneOf("silu"),
  layer_norm_eps: Schema.optionalKey(Schema.Finite),
  use_qkv_bias: flag(false),
  qk_layernorm: flag(false),
  use_parallel_residual: flag(false),
  tie_word_embeddings: flag(false),
  ...Rotary.fields,
  /** What layer_norm_eps and partial_rotary_factor were called in the code the first weights came with. */
  norm_eps: Schema.optionalKey(Schema.Finite),
  rope_pct: Schema.optionalKey(Rotary.Part),
}).check(
  evenHeads,
  evenGroups,
  Schema.makeFilter((c) =>
    epsilon(c) === (c.norm_eps ?? epsilon(c))
      ? undefined
      : `layer_norm_eps ${c.layer_norm_eps} and norm_eps ${c.norm_eps} differ`,
  ),
  Rotary.check,
  Schema.makeFilter((c) => {
    const turned = rotaryDim(c)
    if (c.rope_pct !== undefined && Math.trunc(heads(c).dim * c.rope_pct) !== turned)
      return `partial_rotary_factor turns ${turned} channels of a head, and rope_pct ${c.rope_pct} others`
    return turned > 0 ? Rotary.misfit(c, turned) : "partial_rotary_factor leaves no channel of a head to be turned"
  }),
)
type Config = typeof Config.Type

const epsilon = (c: Pick<Config, "layer_norm_eps" | "norm_eps">) => c.layer_norm_eps ?? c.norm_eps ?? 1e-5

const rotaryDim = (c: Config) => Rotary.rotaryDim(c, heads(c).dim, c.rope_pct ?? 0.25)

/** Each head of [batch, sequence, count x dim] by itself, with a gain of its own: `<site>.norms.<head>.weight`. */
const normHeads = (b: Block, c: Config, site: string, count: number, x: Value): Value => {
  const { dim } = heads(c)
  const gains = Array.from({ length: count }, (_, head) => b.weight(`${site}.norms.${head}.weight`, [dim]))
  const apart = b.reshape(x, 0, 0, count, dim)
  const normed = b.layerNorm(site, dim, epsilon(c), apart, { weight: false, bias: false })
  return b.multiply(b.reshape(normed, 0, 0, count * dim), b.graph.op("Concat", gains, { axis: 0 }))
}

export default Family.make<Config>({
  covers: "StableLM 3B-4E1T, StableLM 2, Stable Code",
  // Its own spellings are read from any config; of this key no other value was published.
  aliases: {
    stablelm_epoch: (config) => {
      const { rotary_scaling_factor: factor = 1 } = config
      if (factor !== 1) throw new Error(`rotary_scaling_factor is ${String(factor)}; only 1 is known`)
      return config
    },
  },
  config: Config,
  ...Decoder.frame,
  tables: (c, length) => Rope.tables(Rotary.rope(c, c.max_position_embeddings), rotaryDim(c), length),

  block: (b, c, hidden) => {
    const size = c.hidden_size
    const plain = { bias: false }
    const { keyValue, query, dim } = heads(c)

    const x = b.flatten(hidden, size)
    const a = b.layerNorm("input_layernorm", size, epsilon(c), x, { bias: true })
    const project = (name: string, count: number) =>
      b.unflatten(b.linear(`self_attn.${name}`, [count * dim, size], a, { bias: c.use_qkv_bias }), count * dim, hidden)
    const normed = (site: string, count: number, y: Value) =>
      c.qk_layernorm ? normHeads(b, c, `self_attn.${site}`, count, y) : y
    const q = normed("q_layernorm", query, project("q_proj", query))
    const k = normed("k_layernorm", keyValue, project("k_proj", keyValue))
    const v = project("v_proj", keyValue)
    const mixed = b.attention(q, k, v, { heads: heads(c), rotary: { dim: rotaryDim(c) } })
    const h = b.add(x, b.linear("self_attn.o_proj", [size, size], b.flatten(mixed, size), plain))

    const m = c.use_parallel_residual ? a : b.layerNorm("post_attention_layernorm", size, epsilon(c), h, { bias: true })
    const down = Decoder.gated(b, c, m)
    return b.unflatten(b.add(h, down), size, hidden)
  },

  head: (b, c, hidden) =>
    Decoder.logits(b, c, b.layerNorm("model.norm", c.hidden_size, epsilon(c), hidden, { bias: true })),

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "stablelm"),
    // Whether both halves of a block stand side by side is told by the norm between them, not by the key for it.
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("stablelm", metadata, shapes)
      const { count, part } = Gguf.turned("stablelm", metadata, sizes.head_dim)
      return {
        ...sizes,
        ...Gguf.rope("stablelm", metadata, floats, count),
        partial_rotary_factor: part,
        layer_norm_eps: Gguf.layerNormEpsilon("stablelm", metadata),
        use_qkv_bias: shapes.has("blk.0.attn_q.bias"),
        qk_layernorm: shapes.has("blk.0.attn_q_norm.weight"),
        use_parallel_residual: !shapes.has("blk.0.ffn_norm.weight"),
      }
    },
    // The gains of all heads are in one tensor.
    tensors: (name, c) => {
      const [, layer, which] = /^blk\.(\d+)\.attn_([qk])_norm\.weight$/.exec(name) ?? []
      if (layer === undefined) return Gguf.tensors(name, Gguf.NAMES)
      const { keyValue, query } = heads(c)
      const of = which === "q" ? query : keyValue
      return Array.from({ length: of }, (_, index) => ({
        name: `model.layers.${layer}.self_attn.${which}_layernorm.norms.${index}.weight`,
        part: { index, of },
      }))
    },
  },
})
