/**
 * OPT (Zhang et al. 2022) and what shares its block, such as Galactica (Taylor et al. 2022). Follows `modeling_opt.py`
 * of Hugging Face transformers. Learned positions begin at row 2 of their table; OPT-350M alone normalizes after the
 * residual instead of before, and has word vectors narrower than the hidden state.
 */
import * as Schema from "effect/Schema"
import type { Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import { evenHeads, flag, heads, oneOf, Positive, size } from "./Config.ts"
import * as Family from "./Family.ts"

const Config = Schema.Struct({
  vocab_size: size(50_272),
  hidden_size: size(768),
  ffn_dim: size(3072),
  num_hidden_layers: size(12),
  num_attention_heads: size(12),
  max_position_embeddings: size(2048),
  /** Columns of the word vectors; as many as the hidden state has by default. */
  word_embed_proj_dim: Schema.optionalKey(Schema.NullOr(Positive)),
  activation_function: oneOf("relu", "gelu"),
  do_layer_norm_before: flag(true),
  /** Of checkpoints tuned before the last norm was found missing. */
  _remove_final_layer_norm: flag(false),
  enable_bias: flag(true),
  layer_norm_elementwise_affine: flag(true),
  tie_word_embeddings: flag(true),
}).check(evenHeads)
type Config = typeof Config.Type

/** Rows of the position table before that of the first token. */
const OFFSET = 2
const EPSILON = 1e-5

const wordSize = (c: Config) => c.word_embed_proj_dim ?? c.hidden_size
const projected = (c: Config) => wordSize(c) !== c.hidden_size

const norm = (b: Block, c: Config, site: string, x: Value): Value => {
  const affine = c.layer_norm_elementwise_affine
  return b.layerNorm(site, c.hidden_size, EPSILON, x, { weight: affine, bias: affine })
}

export default Family.make<Config>({
  covers: "OPT, Galactica",
  config: Config,
  shape: (c) => ({
    layers: c.num_hidden_layers,
    hidden: c.hidden_size,
    vocabulary: c.vocab_size,
    memory: { kind: "keyValue", heads: heads(c) },
    context: c.max_position_embeddings,
  }),

  embed: (b, c, tokens) => {
    const { graph } = b
    const words = b.lookup("model.decoder.embed_tokens", [c.vocab_size, wordSize(c)], tokens)
    const rows = graph.op("Add", [b.positions(), graph.constant("int64", [OFFSET], [])])
    const table = [c.max_position_embeddings + OFFSET, c.hidden_size] as const
    const positions = b.lookup("model.decoder.embed_positions", table, rows, "position")
    if (!projected(c)) return b.add(words, positions)
    const flat = b.flatten(words, wordSize(c))
    const wide = b.linear("model.decoder.project_in", [c.hidden_size, wordSize(c)], flat, { bias: false })
    return b.add(b.unflatten(wide, c.hidden_size, words), positions)
  },

  block: (b, c, hidden) => {
    const size = c.hidden_size
    const bias = { bias: c.enable_bias }
    const before = (site: string, x: Value) => (c.do_layer_norm_before ? norm(b, c, site, x) : x)
    const after = (site: string, x: Value) => (c.do_layer_norm_before ? x : norm(b, c, site, x))

    const x = b.flatten(hidden, size)
    const a = before("self_attn_layer_norm", x)
    const q = b.linear("self_attn.q_proj", [size, size], a, bias)
    const k = b.linear("self_attn.k_proj", [size, size], a, bias)
    const v = b.linear("self_attn.v_proj", [size, size], a, bias)
    const mixed = b.attention(
      b.unflatten(q, size, hidden),
      b.unflatten(k, size, hidden),
      b.unflatten(v, size, hidden),
      {
        heads: heads(c),
      },
    )
    const o = b.linear("self_attn.out_proj", [size, size], b.flatten(mixed, size), bias)
    const h = after("self_attn_layer_norm", b.add(x, o))

    const up = b.linear("fc1", [c.ffn_dim, size], before("final_layer_norm", h), bias)
    const active = c.activation_function === "relu" ? b.relu(up) : b.gelu(up, "none")
    const down = b.linear("fc2", [size, c.ffn_dim], active, bias)
    return b.unflatten(after("final_layer_norm", b.add(h, down)), size, hidden)
  },

  head: (b, c, hidden) => {
    const normed =
      c.do_layer_norm_before && !c["_remove_final_layer_norm"]
        ? norm(b, c, "model.decoder.final_layer_norm", hidden)
        : hidden
    const narrow = projected(c)
      ? b.linear("model.decoder.project_out", [wordSize(c), c.hidden_size], normed, { bias: false })
      : normed
    const tied = { bias: false, weight: "model.decoder.embed_tokens.weight" }
    return b.linear("lm_head", [c.vocab_size, wordSize(c)], narrow, c.tie_word_embeddings ? tied : { bias: false })
  },

  prefix: (layer) => `model.decoder.layers.${layer}.`,
  // Half of the sizes on the hub were saved without the head: `decoder.`.
  rename: (name) => name.replace(/^decoder\./, "model.decoder."),
  ignored: (c) => (c.tie_word_embeddings ? /^lm_head\.weight$/ : /^$/),
})
