/**
 * GPT-2 (Radford et al. 2019) and everything that shares its block: DistilGPT2, Cerebras-GPT, Megatron-LM's exports.
 * Follows `modeling_gpt2.py` of Hugging Face transformers, whose `Conv1D` stores a matrix as [in, out].
 */
import * as Schema from "effect/Schema"
import type { Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import { flag, number, oneOf, Positive, sameUnderBoth, size } from "./Config.ts"
import * as Family from "./Family.ts"
import * as Gguf from "./Gguf.ts"

/** The two names each of these sizes goes by. */
const SPELLINGS = [
  ["n_embd", "hidden_size"],
  ["n_layer", "num_hidden_layers"],
  ["n_head", "num_attention_heads"],
  ["n_positions", "max_position_embeddings"],
] as const

const Config = Schema.Struct({
  vocab_size: size(50_257),
  n_embd: Schema.optionalKey(Positive),
  hidden_size: Schema.optionalKey(Positive),
  n_layer: Schema.optionalKey(Positive),
  num_hidden_layers: Schema.optionalKey(Positive),
  n_head: Schema.optionalKey(Positive),
  num_attention_heads: Schema.optionalKey(Positive),
  n_positions: Schema.optionalKey(Positive),
  max_position_embeddings: Schema.optionalKey(Positive),
  /** Four times the hidden state by default. */
  n_inner: Schema.optionalKey(Schema.NullOr(Positive)),
  activation_function: oneOf("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu", "relu", "silu", "swish"),
  layer_norm_epsilon: number(1e-5),
  scale_attn_weights: flag(true),
  scale_attn_by_inverse_layer_idx: flag(false),
  add_cross_attention: oneOf(false),
  tie_word_embeddings: flag(true),
}).check(
  sameUnderBoth(SPELLINGS),
  Schema.makeFilter((c) => {
    const { hidden, query } = sizes(c)
    return hidden % query === 0 ? undefined : `n_embd ${hidden} is not a multiple of n_head ${query}`
  }),
)
type Config = typeof Config.Type

const sizes = (c: {
  readonly [name in (typeof SPELLINGS)[number][number]]?: number
}) => ({
  hidden: c.n_embd ?? c.hidden_size ?? 768,
  layers: c.n_layer ?? c.num_hidden_layers ?? 12,
  query: c.n_head ?? c.num_attention_heads ?? 12,
  context: c.n_positions ?? c.max_position_embeddings ?? 1024,
})
const heads = (c: Config) => {
  const { hidden, query } = sizes(c)
  return { query, keyValue: query, dim: hidden / query }
}

const activate = (b: Block, c: Config, x: Value): Value => {
  switch (c.activation_function) {
    case "gelu_new":
    case "gelu_fast":
    case "gelu_pytorch_tanh":
      return b.gelu(x, "tanh")
    case "gelu":
      return b.gelu(x, "none")
    case "relu":
      return b.relu(x)
    case "silu":
    case "swish":
      return b.silu(x)
  }
}

/** `Conv1D`: a bias, and a matrix stored as [in, out]. */
const CONV1D = { bias: true, transposed: true }

export default Family.make<Config>({
  covers: "GPT-2, DistilGPT2, Cerebras-GPT, Megatron-LM's exports",
  config: Config,
  shape: (c) => {
    const { context, hidden, layers } = sizes(c)
    return { layers, hidden, vocabulary: c.vocab_size, memory: { kind: "keyValue", heads: heads(c) }, context }
  },

  embed: (b, c, tokens) => {
    const { context, hidden } = sizes(c)
    const words = b.lookup("transformer.wte", [c.vocab_size, hidden], tokens)
    return b.add(words, b.lookup("transformer.wpe", [context, hidden], b.positions(), "position"))
  },

  block: (b, c, hidden, layer) => {
    const { hidden: size } = sizes(c)
    const inner = c.n_inner ?? 4 * size
    const { dim } = heads(c)
    const scale = (c.scale_attn_weights ? 1 / Math.sqrt(dim) : 1) / (c.scale_attn_by_inverse_layer_idx ? layer + 1 : 1)

    const x = b.flatten(hidden, size)
    const a = b.layerNorm("ln_1", size, c.layer_norm_epsilon, x, { bias: true })
    const fused = b.linear("attn.c_attn", [3 * size, size], a, CONV1D)
    const [q, k, v] = b.split(b.unflatten(fused, 3 * size, hidden), [size, size, size])
    const mixed = b.attention(q!, k!, v!, { heads: heads(c), scale })
    const h = b.add(b.linear("attn.c_proj", [size, size], b.flatten(mixed, size), CONV1D), x)

    const m = b.layerNorm("ln_2", size, c.layer_norm_epsilon, h, { bias: true })
    const up = activate(b, c, b.linear("mlp.c_fc", [inner, size], m, CONV1D))
    return b.unflatten(b.add(h, b.linear("mlp.c_proj", [size, inner], up, CONV1D)), size, hidden)
  },

  head: (b, c, hidden) => {
    const { hidden: size } = sizes(c)
    const tied = { bias: false, weight: "transformer.wte.weight" }
    const normed = b.layerNorm("transformer.ln_f", size, c.layer_norm_epsilon, hidden, { bias: true })
    return b.linear("lm_head", [c.vocab_size, size], normed, c.tie_word_embeddings ? tied : { bias: false })
  },

  prefix: (layer) => `transformer.h.${layer}.`,
  // OpenAI's own checkpoints were saved without the head.
  rename: (name) => name.replace(/^(?=(?:wte|wpe|h|ln_f)\.)/, "transformer."),
  // Causal masks, as they were once stored.
  ignored: (c) =>
    c.tie_word_embeddings
      ? /^transformer\.h\.\d+\.attn\.(masked_)?bias$|^lm_head\.weight$/
      : /^transformer\.h\.\d+\.attn\.(masked_)?bias$/,

  gguf: {
    is: (metadata) => Gguf.isOf(metadata, "gpt2"),
    config: (metadata, _floats, shapes) => {
      const { intermediate_size, ...sizes } = Gguf.sizes("gpt2", metadata, shapes)
      return { ...sizes, n_inner: intermediate_size, layer_norm_epsilon: Gguf.layerNormEpsilon("gpt2", metadata) }
    },
    // The converter turns what `Conv1D` stores as [in, out]; turned back, it is what the checkpoint has.
    tensors: (name, c) => {
      const { hidden } = sizes(c)
      const out: { readonly [site: string]: number } = {
        c_attn: 3 * hidden,
        c_fc: c.n_inner ?? 4 * hidden,
        c_proj: hidden,
      }
      return Gguf.tensors(name, NAMES, (target) => {
        const columns = out[/\.(c_\w+)\.weight$/.exec(target)?.[1] ?? ""]
        return columns === undefined ? [] : [{ kind: "transpose", columns }]
      })
    },
  },
})

const NAMES = {
  token_embd: "transformer.wte",
  position_embd: "transformer.wpe",
  output_norm: "transformer.ln_f",
  output: "lm_head",
  attn_norm: "transformer.h.N.ln_1",
  attn_qkv: "transformer.h.N.attn.c_attn",
  attn_output: "transformer.h.N.attn.c_proj",
  ffn_norm: "transformer.h.N.ln_2",
  ffn_up: "transformer.h.N.mlp.c_fc",
  ffn_down: "transformer.h.N.mlp.c_proj",
}
