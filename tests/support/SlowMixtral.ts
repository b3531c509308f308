/**
 * Mixtral as its formulas read, in double: every expert computes every token, and what is not routed to it counts
 * nothing. No sliding window.
 */
import {
  attend,
  type Config,
  dot,
  norm,
  type Observe,
  plus,
  rotate,
  type Row,
  softmax,
  type Weights,
} from "./SlowLlama.ts"

/** Each expert's share in a token: the `best` likeliest, together 1. */
const shares = (router: Row, best: number): Row => {
  const likely = softmax(router)
  const least = likely.toSorted((a, b) => b - a)[best - 1]!
  const kept = likely.map((p) => (p >= least ? p : 0))
  const together = kept.reduce((a, b) => a + b, 0)
  return kept.map((p) => p / together)
}

/**
 * The last hidden states. `observe` sees of an expert's linears (`0.block_sparse_moe.experts.5.w1`) only the rows that
 * are routed to it.
 */
export const hidden = (
  config: Config & { readonly experts: number; readonly best: number },
  weights: Weights,
  tokens: ArrayLike<number>,
  observe: (...of: Parameters<Observe>) => void,
): ReadonlyArray<Row> => {
  const embedding = weights.matrix("model.embed_tokens.weight")
  let states: ReadonlyArray<Row> = Array.from(tokens, (token) => embedding[token]!)
  for (let layer = 0; layer < config.layers; layer++) {
    const product = (site: string, rows: ReadonlyArray<Row>) => {
      const matrix = weights.matrix(`model.layers.${layer}.${site}.weight`)
      return rows.map((row) => matrix.map((w) => dot(w, row)))
    }
    const linear = (site: string, rows: ReadonlyArray<Row>) => {
      observe(`${layer}.${site}`, rows)
      return product(site, rows)
    }
    const normed = (site: string, rows: ReadonlyArray<Row>) =>
      rows.map((row) => norm(row, weights.vector(`model.layers.${layer}.${site}.weight`), config.epsilon))
    const turned = (rows: ReadonlyArray<Row>) => rows.map((row, t) => rotate(row, config.heads.dim, t, config.theta))
    const a = normed("input_layernorm", states)
    const q = turned(linear("self_attn.q_proj", a))
    const straight = linear("self_attn.k_proj", a)
    const k = turned(straight)
    const v = linear("self_attn.v_proj", a)
    observe(`${layer}.key-before-rope`, straight)
    observe(`${layer}.key`, k)
    observe(`${layer}.value`, v)
    const o = linear("self_attn.o_proj", attend(q, k, v, config.heads))
    states = states.map((row, t) => plus(row, o[t]!))
    const m = normed("post_attention_layernorm", states)
    const routing = linear("block_sparse_moe.gate", m).map((router) => shares(router, config.best))
    for (let expert = 0; expert < config.experts; expert++) {
      const prefix = `block_sparse_moe.experts.${expert}`
      const routed = (rows: ReadonlyArray<Row>) => rows.filter((_, t) => routing[t]![expert] !== 0)
      const gate = product(`${prefix}.w1`, m).map((row) => row.map((x) => x / (1 + Math.exp(-x))))
      const up = product(`${prefix}.w3`, m)
      const inner = gate.map((row, t) => row.map((x, i) => x * up[t]![i]!))
      observe(`${layer}.${prefix}.w1`, routed(m))
      observe(`${layer}.${prefix}.w3`, routed(m))
      observe(`${layer}.${prefix}.w2`, routed(inner))
      const down = product(`${prefix}.w2`, inner)
      states = states.map((row, t) =>
        plus(
          row,
          down[t]!.map((x) => x * routing[t]![expert]!),
        ),
      )
    }
  }
  return states
}
