/**
 * What Llama's descendants have in common: attention and gated feed-forward under Llama's names, and all that stands
 * around their blocks.
 */
import * as Rope from "../math/Rope.ts"
import type { Attention, Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"
import { type HeadKeys, heads } from "./Config.ts"
import type { Shape } from "./Family.ts"
import * as Rotary from "./Rotary.ts"

/**
 * Queries, keys and values of the normed rows `a` [tokens, hidden], attention, and the product that follows it. `normed`
 * may be a norm of every head's queries and keys; `hidden` [batch, sequence, hidden] tells which rows make a sequence.
 */
export const attention = (
  b: Block,
  { hidden_size: size }: { readonly hidden_size: number },
  a: Value,
  hidden: Value,
  options: Attention & {
    /** Of queries, keys and values, and of what follows; the same unless `output` says otherwise. */
    readonly bias: boolean
    readonly output?: { readonly bias: boolean }
    readonly normed?: (site: string, rows: Value) => Value
  },
): Value => {
  const { bias, normed = (_site, rows) => rows, output = { bias }, ...rest } = options
  const { dim, keyValue, query } = rest.heads
  const project = (name: string, count: number) => b.linear(`self_attn.${name}_proj`, [count * dim, size], a, { bias })
  const [q, k, v] = [project("q", query), project("k", keyValue), project("v", keyValue)]
  const sequences = (x: Value, count: number) => b.unflatten(x, count * dim, hidden)
  const mixed = b.attention(
    sequences(normed("self_attn.q_norm", q), query),
    sequences(normed("self_attn.k_norm", k), keyValue),
    sequences(v, keyValue),
    rest,
  )
  return b.linear("self_attn.o_proj", [size, query * dim], b.flatten(mixed, query * dim), output)
}

interface Sizes {
  readonly hidden_size: number
  readonly intermediate_size: number
}

/** down(act(gate(x)) * up(x)) (Shazeer 2020); SiLU, or the tanh GELU. */
export const gated = (
  b: Block,
  { hidden_size: size, intermediate_size: inner }: Sizes,
  x: Value,
  { activation = "silu", bias = false }: { readonly activation?: "silu" | "gelu"; readonly bias?: boolean } = {},
): Value => {
  const gate = b.linear("mlp.gate_proj", [inner, size], x, { bias })
  const active = activation === "silu" ? b.silu(gate) : b.gelu(gate, "tanh")
  const up = b.linear("mlp.up_proj", [inner, size], x, { bias })
  return b.linear("mlp.down_proj", [size, inner], b.multiply(active, up), { bias })
}

interface Positions extends HeadKeys, Rotary.Config {
  readonly max_position_embeddings: number
}
interface Tied {
  readonly tie_word_embeddings: boolean
}
interface Words {
  readonly vocab_size: number
  readonly hidden_size: number
}

export const shape = (c: Positions & Words & { readonly num_hidden_layers: number }): Shape => ({
  layers: c.num_hidden_layers,
  hidden: c.hidden_size,
  vocabulary: c.vocab_size,
  memory: { kind: "keyValue", heads: heads(c) },
  context: Rotary.context(c, c.max_position_embeddings),
})

export const embed = (b: Block, c: Words, tokens: Value): Value =>
  b.lookup("model.embed_tokens", [c.vocab_size, c.hidden_size], tokens)

/** The last hidden state after its norm -> logits, by a head of its own or by the embedding. */
export const logits = (b: Block, c: Tied & Words, normed: Value): Value => {
  const tied = c.tie_word_embeddings ? { weight: "model.embed_tokens.weight" } : {}
  return b.linear("lm_head", [c.vocab_size, c.hidden_size], normed, { bias: false, ...tied })
}

/** What stands around Llama's block. A family spreads it, and writes after it what is otherwise. */
export const frame = {
  shape,
  /** Of heads that are turned as a whole. */
  tables: (c: Positions, length: number) =>
    Rope.tables(Rotary.rope(c, c.max_position_embeddings), heads(c).dim, length),
  tableKey: (c: Positions, length: number) => Rotary.tableKey(c, c.max_position_embeddings, length),

  embed,
  head: (b: Block, c: Tied & Words & { readonly rms_norm_eps: number }, hidden: Value) =>
    logits(b, c, b.rmsNorm("model.norm", c.hidden_size, c.rms_norm_eps, hidden)),

  prefix: (layer: number) => `model.layers.${layer}.`,
  /** Rotary frequencies as they were once stored, and a head that is stored although it is tied. */
  ignored: (c: Tied) =>
    c.tie_word_embeddings
      ? /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$|^lm_head\.weight$/
      : /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/,
  /** Checkpoints of the bare model lack the prefix. */
  rename: (name: string) => name.replace(/^(?=(embed_tokens|layers|norm)\.)/, "model."),
}
