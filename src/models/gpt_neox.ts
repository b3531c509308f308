/**
 * GPT-NeoX (Black et al. 2022) and everything that shares its block: Pythia, Dolly, RedPajama-INCITE, StableLM-Alpha,
 * Polyglot-Ko. Follows `modeling_gpt_neox.py` of Hugging Face transformers: attention and MLP side by side, a part of
 * each head turned by rotary positions, queries, keys and values of one head next to each other in one matrix.
 */
import * as Schema from "effect/Schema"
import * as Rope from "../math/Rope.ts"
import { evenHeads, flag, heads, number, oneOf, size } from "./Config.ts"
import * as Decoder from "./Decoder.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"
import * as Rotary from "./Rotary.ts"

const Config = Schema.Struct({
  vocab_size: size(50_432),
  hidden_size: size(6144),
  intermediate_size: size(24_576),
  num_hidden_layers: size(44),
  num_attention_heads: size(64),
  max_position_embeddings: size(2048),
  hidden_act: oneOf("gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu"),
  layer_norm_eps: number(1e-5),
  use_parallel_residual: flag(true),
  attention_bias: flag(true),
  tie_word_embeddings: flag(false),
  ...Rotary.fields,
  /** The family's own spellings of rope_theta and partial_rotary_factor. */
  rotary_emb_base: Schema.optionalKey(Schema.Finite),
  rotary_pct: Schema.optionalKey(Rotary.Part),
}).check(
  evenHeads,
  Rotary.check,
  Schema.makeFilter((c) => {
    const { partial_rotary_factor: part, rope_theta: theta } = rotary(c)
    if ((c.rope_theta ?? theta) !== theta) return `rope_theta ${c.rope_theta} and rotary_emb_base ${theta} differ`
    return (c.partial_rotary_factor ?? part) === part
      ? undefined
      : `partial_rotary_factor ${c.partial_rotary_factor} and rotary_pct ${part} differ`
  }),
  Schema.makeFilter((c) => {
    const turned = rotaryDim(c)
    return turned > 0 ? Rotary.misfit(rotary(c), turned) : "rotary_pct leaves no channel of a head to be turned"
  }),
)
type Config = typeof Config.Type

/** In the spelling of other families. */
const rotary = <C extends { readonly rotary_emb_base?: number; readonly rotary_pct?: number }>(c: C) => ({
  ...c,
  rope_theta: c.rotary_emb_base ?? 10_000,
  partial_rotary_factor: c.rotary_pct ?? 0.25,
})

const rotaryDim = (c: Config) => Rotary.rotaryDim(rotary(c), heads(c).dim)

export default Family.make<Config>({
  covers: "GPT-NeoX, Pythia, Dolly, RedPajama-INCITE, StableLM-Alpha, Polyglot-Ko",
  config: Config,
  shape: Decoder.shape,
  tables: (c, length) => Rope.tables(Rotary.rope(rotary(c), c.max_position_embeddings), rotaryDim(c), length),
  tableKey: (c, length) => Rotary.tableKey(rotary(c), c.max_position_embeddings, length),

  embed: (b, c, tokens) => b.lookup("gpt_neox.embed_in", [c.vocab_size, c.hidden_size], tokens),

  block: (b, c, hidden) => {
    const size = c.hidden_size
    const bias = { bias: c.attention_bias }
    const { dim, query } = heads(c)

    const x = b.flatten(hidden, size)
    const a = b.layerNorm("input_layernorm", size, c.layer_norm_eps, x, { bias: true })
    const fused = b.linear("attention.query_key_value", [3 * size, size], a, bias)
    const split = b.split(b.reshape(b.unflatten(fused, 3 * size, hidden), 0, 0, query, 3 * dim), [dim, dim, dim])
    const [q, k, v] = split.map((part) => b.reshape(part, 0, 0, size))
    const mixed = b.attention(q!, k!, v!, { heads: heads(c), rotary: { dim: rotaryDim(c) } })
    const o = b.linear("attention.dense", [size, size], b.flatten(mixed, size), bias)
    const h = b.add(o, x)

    const beside = c.use_parallel_residual ? x : h
    const m = b.layerNorm("post_attention_layernorm", size, c.layer_norm_eps, beside, { bias: true })
    const up = b.linear("mlp.dense_h_to_4h", [c.intermediate_size, size], m, { bias: true })
    const active = c.hidden_act === "relu" ? b.relu(up) : b.gelu(up, c.hidden_act === "gelu" ? "none" : "tanh")
    const down = b.linear("mlp.dense_4h_to_h", [size, c.intermediate_size], active, { bias: true })
    return b.unflatten(b.add(down, h), size, hidden)
  },

  head: (b, c, hidden) => {
    const tied = { bias: false, weight: "gpt_neox.embed_in.weight" }
    const normed = b.layerNorm("gpt_neox.final_layer_norm", c.hidden_size, c.layer_norm_eps, hidden, { bias: true })
    return b.linear("embed_out", [c.vocab_size, c.hidden_size], normed, c.tie_word_embeddings ? tied : { bias: false })
  },

  prefix: (layer) => `gpt_neox.layers.${layer}.`,
  // Checkpoints of the bare model lack the prefix; and the newer name of the head.
  rename: (name) =>
    name.replace(/^(?=(embed_in|layers|final_layer_norm)\.)/, "gpt_neox.").replace(/^lm_head\./, "embed_out."),
  // Causal masks and rotary frequencies, as they were once stored.
  ignored: (c) =>
    c.tie_word_embeddings
      ? /^gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$|^embed_out\.weight$/
      : /^gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$/,

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "gptneox"),
    config: (metadata, floats, shapes) => {
      const sizes = Gguf.sizes("gptneox", metadata, shapes)
      const { count, part } = Gguf.turned("gptneox", metadata, sizes.head_dim)
      const rope = Gguf.rope("gptneox", metadata, floats, count)
      return {
        ...sizes,
        ...rope,
        rotary_emb_base: rope.rope_theta,
        rotary_pct: part,
        layer_norm_eps: Gguf.layerNormEpsilon("gptneox", metadata),
        use_parallel_residual: metadata.get("gptneox.use_parallel_residual") ?? true,
        attention_bias: shapes.has("blk.0.attn_qkv.bias"),
      }
    },
    tensors: (name, c) => Gguf.tensors(name, NAMES, Gguf.regrouped(heads(c).query, [1, 1, 1])),
  },
})

const NAMES = {
  ...Gguf.ROPE,
  token_embd: "gpt_neox.embed_in",
  output_norm: "gpt_neox.final_layer_norm",
  output: "embed_out",
  attn_norm: "gpt_neox.layers.N.input_layernorm",
  attn_qkv: "gpt_neox.layers.N.attention.query_key_value",
  attn_output: "gpt_neox.layers.N.attention.dense",
  ffn_norm: "gpt_neox.layers.N.post_attention_layernorm",
  ffn_up: "gpt_neox.layers.N.mlp.dense_h_to_4h",
  ffn_down: "gpt_neox.layers.N.mlp.dense_4h_to_h",
}
