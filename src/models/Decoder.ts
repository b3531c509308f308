/** What Llama's descendants have in common: the gated feed-forward, the head, and what checkpoints carry in vain. */
import type { Attention, Block } from "../onnx/Block.ts"
import type { Value } from "../onnx/Graph.ts"

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

interface Tied {
  readonly tie_word_embeddings: boolean
}

/** The last hidden state after its norm -> logits, by a head of its own or by the embedding. */
export const head = (
  b: Block,
  c: Tied & { readonly hidden_size: number; readonly vocab_size: number },
  normed: Value,
): Value => {
  const tied = c.tie_word_embeddings ? { weight: "model.embed_tokens.weight" } : {}
  return b.linear("lm_head", [c.vocab_size, c.hidden_size], normed, { bias: false, ...tied })
}

/** Checkpoints of the bare model lack the prefix. */
export const rename = (name: string): string => name.replace(/^(?=(embed_tokens|layers|norm)\.)/, "model.")

/** Rotary frequencies as they were once stored, and a head that is stored although it is tied. */
export const ignored = (c: Tied): RegExp =>
  c.tie_word_embeddings
    ? /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$|^lm_head\.weight$/
    : /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/
