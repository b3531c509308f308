/**
 * The vocabulary a family describes its decoder in. A block is written once; hooks decide what else the same
 * description is used for: the plain graph, statistics of each linear's input, fake quantization.
 *
 * Rows are tokens. A hidden state is [batch, sequence, hidden]; inside a block it is flattened to [tokens, hidden],
 * because `Gemm` with a transposed weight as graph input is the fastest product ONNX Runtime has on a CPU.
 */
import { Graph, type Value } from "./Graph.ts"

/** A weight that enters the graph as an input. The catalog of a checkpoint is the list of these. */
export interface Weight {
  readonly name: string
  readonly shape: ReadonlyArray<number>
}
/** `y = x Wᵀ + b`. `input.from` is the op that made `x`: which norm feeds which linear is read off the graph. */
export interface Linear {
  readonly site: string
  readonly weight: string
  readonly shape: readonly [outFeatures: number, inFeatures: number]
  readonly input: Value
}
/** A table of rows looked up by token. */
export interface Table {
  readonly site: string
  readonly weight: string
  readonly shape: readonly [rows: number, columns: number]
}
export interface Heads {
  readonly query: number
  readonly keyValue: number
  readonly dim: number
}
export interface Hooks {
  /** Sees the input of every linear, [tokens, inFeatures], and may replace it. */
  readonly linear: (b: Block, site: string, x: Value, inFeatures: number) => Value
  /** Sees K and V, [batch, sequence, heads x dim], as they are about to enter the cache, and may replace them. */
  readonly keyValue: (b: Block, key: Value, value: Value, heads: Heads) => readonly [key: Value, value: Value]
}
export const plain: Hooks = { linear: (_b, _site, x) => x, keyValue: (_b, key, value) => [key, value] }

export class Block {
  readonly graph: Graph
  readonly weights: Array<Weight> = []
  readonly linears: Array<Linear> = []
  readonly tables: Array<Table> = []
  readonly #hooks: Hooks
  readonly #prefix: string
  /** `prefix` keeps the inputs of two models apart that share a graph. */
  constructor(hooks: Hooks, graph = new Graph(), prefix = "") {
    this.#hooks = hooks
    this.graph = graph
    this.#prefix = prefix
  }

  weight(name: string, shape: ReadonlyArray<number>): Value {
    if (!this.weights.some((weight) => weight.name === name)) this.weights.push({ name, shape })
    return this.graph.input(this.#prefix + name, "float32", shape)
  }

  /**
   * [tokens, in] -> [tokens, out]. `bias` says whether the checkpoint has `<site>.bias`; `weight` names the tensor where
   * it is not `<site>.weight` (a head tied to the embedding).
   */
  linear(
    site: string,
    shape: readonly [outFeatures: number, inFeatures: number],
    x: Value,
    options: { readonly bias: boolean; readonly weight?: string },
  ): Value {
    const weight = options.weight ?? `${site}.weight`
    this.linears.push({ site, weight, shape, input: x })
    const inputs = [this.#hooks.linear(this, site, x, shape[1]), this.weight(weight, shape)]
    if (options.bias) inputs.push(this.weight(`${site}.bias`, [shape[0]]))
    return this.graph.op("Gemm", inputs, { transB: 1 }, site)
  }

  /** `tokens` [batch, sequence] -> rows of the table, [batch, sequence, columns]. */
  lookup(site: string, shape: readonly [rows: number, columns: number], tokens: Value): Value {
    const weight = `${site}.weight`
    this.tables.push({ site, weight, shape })
    return this.graph.op("Gather", [this.weight(weight, shape), tokens], { axis: 0 }, site)
  }

  /** x / sqrt(mean(x^2) + eps) * g over the last axis (Zhang & Sennrich 2019). */
  rmsNorm(site: string, size: number, epsilon: number, x: Value): Value {
    return this.graph.op(
      "RMSNormalization",
      [x, this.weight(`${site}.weight`, [size])],
      { axis: -1, epsilon: { float: epsilon } },
      site,
    )
  }

  add(a: Value, b: Value): Value {
    return this.graph.op("Add", [a, b])
  }
  multiply(a: Value, b: Value): Value {
    return this.graph.op("Mul", [a, b])
  }
  /** x * sigmoid(x). */
  silu(x: Value): Value {
    return this.graph.op("QuickGelu", [x], { alpha: { float: 1 } })
  }

  /** [batch, sequence, size] -> [tokens, size]. */
  flatten(x: Value, size: number): Value {
    return this.graph.op("Reshape", [x, this.graph.ints(-1, size)])
  }
  /** [tokens, size] -> [batch, sequence, size], the sizes taken from `like`. */
  unflatten(x: Value, size: number, like: Value): Value {
    const lead = this.graph.op("Shape", [like], { start: 0, end: 2 })
    return this.graph.op("Reshape", [x, this.graph.op("Concat", [lead, this.graph.ints(size)], { axis: 0 })])
  }

  /**
   * Causal attention with rotary positions. `q` [batch, sequence, query x dim], `k` and `v`
   * [batch, sequence, keyValue x dim]; earlier keys and values enter as `pastKey` and `pastValue`
   * [batch, keyValue, capacity, dim]. `lengths + 1` of each sequence are live with those of this call, which leave as
   * `key` and `value` [batch, sequence, keyValue x dim]: the caller appends them to what is past.
   */
  attention(q: Value, k: Value, v: Value, heads: Heads): Value {
    const { graph } = this
    const positions = graph.input("positions", "int64", ["batch", "sequence"])
    const cos = graph.input("cos", "float32", ["positions", heads.dim / 2])
    const sin = graph.input("sin", "float32", ["positions", heads.dim / 2])
    const rotate = (x: Value, count: number) =>
      graph.op("RotaryEmbedding", [x, cos, sin, positions], { num_heads: count })
    const [key, value] = this.#hooks.keyValue(this, rotate(k, heads.keyValue), v, heads)
    const padded = paddedDim(heads.dim)
    const cache = ["batch", heads.keyValue, "capacity", padded] as const
    const [freshKey, freshValue] = [key, value].map((x) => this.#pad(x, heads.keyValue, heads.dim, padded)) as [
      Value,
      Value,
    ]
    const [out] = graph.ops(
      "GroupQueryAttention",
      [
        this.#pad(rotate(q, heads.query), heads.query, heads.dim, padded),
        freshKey,
        freshValue,
        graph.input("pastKey", "float32", cache),
        graph.input("pastValue", "float32", cache),
        graph.input("lengths", "int32", ["batch"]),
        graph.input("total", "int32", []),
      ],
      3,
      { num_heads: heads.query, kv_num_heads: heads.keyValue, scale: { float: 1 / Math.sqrt(heads.dim) } },
    )
    const fresh = ["batch", "sequence", heads.keyValue * padded]
    graph.output("key", freshKey, "float32", fresh)
    graph.output("value", freshValue, "float32", fresh)
    return this.#unpad(out!, heads.query, heads.dim, padded)
  }

  /** Zeros after each head's channels change neither q·k nor the first `dim` channels of the output. */
  #pad(x: Value, count: number, dim: number, padded: number): Value {
    if (padded === dim) return x
    const { graph } = this
    const split = graph.op("Reshape", [x, graph.ints(0, 0, count, dim)])
    const wide = graph.op("Pad", [split, graph.ints(0, 0, 0, 0, 0, 0, 0, padded - dim)])
    return graph.op("Reshape", [wide, graph.ints(0, 0, count * padded)])
  }
  #unpad(x: Value, count: number, dim: number, padded: number): Value {
    if (padded === dim) return x
    const { graph } = this
    const split = graph.op("Reshape", [x, graph.ints(0, 0, count, padded)])
    const narrow = graph.op("Slice", [split, graph.ints(0), graph.ints(dim), graph.ints(3)])
    return graph.op("Reshape", [narrow, graph.ints(0, 0, count * dim)])
  }
}

/** `GroupQueryAttention` takes head sizes that are multiples of 8. */
export const paddedDim = (dim: number) => Math.ceil(dim / 8) * 8
