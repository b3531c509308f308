/**
 * Llama as its formulas read, in double, one token at a time: slow, obvious, and what the compute layer is compared
 * with. Default rotary positions only. A row is a plain array of numbers.
 */
export type Row = ReadonlyArray<number>
export interface Config {
  readonly layers: number
  readonly heads: { readonly query: number; readonly keyValue: number; readonly dim: number }
  readonly epsilon: number
  readonly theta: number
  readonly tied: boolean
}
export interface Weights {
  /** [rows][columns] */
  readonly matrix: (name: string) => ReadonlyArray<Row>
  readonly vector: (name: string) => Row
  readonly has: (name: string) => boolean
}
/** Sees, and may replace, the input of every linear (`0.mlp.up_proj`), and K and V (`0.key-before-rope`, `0.key`, `0.value`), token by token. */
export type Observe = (site: string, rows: ReadonlyArray<Row>) => ReadonlyArray<Row>

export const dot = (a: Row, b: Row) => a.reduce((sum, x, i) => sum + x * b[i]!, 0)
export const plus = (a: Row, b: Row) => a.map((x, i) => x + b[i]!)
export const norm = (x: Row, gain: Row, epsilon: number) => {
  const root = Math.sqrt(dot(x, x) / x.length + epsilon)
  return x.map((value, i) => (value / root) * gain[i]!)
}
export const softmax = (x: Row): Row => {
  const top = Math.max(...x)
  const powers = x.map((value) => Math.exp(value - top))
  const total = powers.reduce((a, b) => a + b, 0)
  return powers.map((value) => value / total)
}

/** Pairs are the two halves of a head. */
export const rotate = (x: Row, dim: number, position: number, theta: number): Row =>
  x.map((value, i) => {
    const [head, channel] = [Math.floor(i / dim), i % dim]
    const half = dim / 2
    const angle = position * theta ** (-(2 * (channel % half)) / dim)
    const other = x[head * dim + ((channel + half) % dim)]!
    return value * Math.cos(angle) + (channel < half ? -other : other) * Math.sin(angle)
  })

export const attend = (
  q: ReadonlyArray<Row>,
  k: ReadonlyArray<Row>,
  v: ReadonlyArray<Row>,
  { dim, keyValue, query }: Config["heads"],
) =>
  q.map((row, t) =>
    Array.from({ length: query }, (_, h) => {
      const at = Math.floor(h / (query / keyValue)) * dim
      const mine = row.slice(h * dim, (h + 1) * dim)
      const seen = softmax(k.slice(0, t + 1).map((key) => dot(mine, key.slice(at, at + dim)) / Math.sqrt(dim)))
      return Array.from({ length: dim }, (_, c) => seen.reduce((sum, share, s) => sum + share * v[s]![at + c]!, 0))
    }).flat(),
  )

/** Logits of every position. */
export const logits = (
  config: Config,
  weights: Weights,
  tokens: ArrayLike<number>,
  observe: Observe,
): ReadonlyArray<Row> => {
  const embedding = weights.matrix("model.embed_tokens.weight")
  let hidden: ReadonlyArray<Row> = Array.from(tokens, (token) => embedding[token]!)
  for (let layer = 0; layer < config.layers; layer++) {
    const linear = (site: string, rows: ReadonlyArray<Row>) => {
      const name = `model.layers.${layer}.${site}`
      const matrix = weights.matrix(`${name}.weight`)
      const bias = weights.has(`${name}.bias`) ? weights.vector(`${name}.bias`) : matrix.map(() => 0)
      return observe(`${layer}.${site}`, rows).map((row) => matrix.map((w, o) => dot(w, row) + bias[o]!))
    }
    const normed = (site: string, rows: ReadonlyArray<Row>) =>
      rows.map((row) => norm(row, weights.vector(`model.layers.${layer}.${site}.weight`), config.epsilon))
    const turned = (rows: ReadonlyArray<Row>) => rows.map((row, t) => rotate(row, config.heads.dim, t, config.theta))
    const a = normed("input_layernorm", hidden)
    const q = turned(linear("self_attn.q_proj", a))
    const k = observe(`${layer}.key`, turned(observe(`${layer}.key-before-rope`, linear("self_attn.k_proj", a))))
    const v = observe(`${layer}.value`, linear("self_attn.v_proj", a))
    const o = linear("self_attn.o_proj", attend(q, k, v, config.heads))
    hidden = hidden.map((row, t) => plus(row, o[t]!))
    const m = normed("post_attention_layernorm", hidden)
    const gate = linear("mlp.gate_proj", m).map((row) => row.map((x) => x / (1 + Math.exp(-x))))
    const up = linear("mlp.up_proj", m)
    const down = linear(
      "mlp.down_proj",
      gate.map((row, t) => row.map((x, i) => x * up[t]![i]!)),
    )
    hidden = hidden.map((row, t) => plus(row, down[t]!))
  }
  const head = weights.matrix(config.tied ? "model.embed_tokens.weight" : "lm_head.weight")
  return hidden.map((row) => {
    const last = norm(row, weights.vector("model.norm.weight"), config.epsilon)
    return head.map((w) => dot(w, last))
  })
}

/** Log-probability of `target` after each row's logits, and the most likely token (the lowest of equals). */
export const logprob = (row: Row, target: number): number => Math.log(softmax(row)[target]!)
export const greedy = (row: Row): number => row.indexOf(Math.max(...row))
export const divergence = (reference: Row, own: Row): number => {
  const [p, q] = [softmax(reference), softmax(own)]
  return p.reduce((sum, share, i) => sum + share * Math.log(share / q[i]!), 0)
}
