/**
 * The vocabulary a family describes its decoder in. A block is written once; hooks decide what else the same
 * description is used for: the plain graph, statistics of each linear's input, fake quantization.
 *
 * Rows are tokens. A hidden state is [batch, sequence, hidden]; inside a block it is flattened to [tokens, hidden],
 * because `Gemm` with a transposed weight as graph input is the fastest product ONNX Runtime has on a CPU.
 */
import { Graph, type Value } from "./Graph.ts"
import * as Softcap from "./Softcap.ts"

/** A weight that enters the graph as an input. The catalog of a checkpoint is the list of these. */
export interface Weight {
  readonly name: string
  /** As the graph takes it; a linear's is [out, in]. */
  readonly shape: ReadonlyArray<number>
  /** The checkpoint stores the matrix as [in, out], as GPT-2's `Conv1D` does. */
  readonly transposed: boolean
}
/** `y = x Wᵀ + b`. `input.from` is the op that made `x`: which norm feeds which linear is read off the graph. */
export interface Linear {
  readonly site: string
  readonly weight: string
  readonly shape: readonly [outFeatures: number, inFeatures: number]
  readonly input: Value
  /** Quantized only where it is selected by name: what routes tokens to experts. */
  readonly byName: boolean
}
/** A table of rows looked up by token or by position. */
export interface Table {
  readonly by: "token" | "position"
  readonly site: string
  readonly weight: string
  readonly shape: readonly [rows: number, columns: number]
}
export interface Heads {
  readonly query: number
  readonly keyValue: number
  readonly dim: number
}
/** Where keys are quantized: as the product gives them, or turned by rotary positions, as they enter the cache. */
export type Point = "before-rope" | "after-rope"
export interface Hooks {
  /** Sees the input of every linear, [tokens, inFeatures], and may replace it. */
  readonly linear: (b: Block, site: string, x: Value, inFeatures: number) => Value
  /** Sees the keys, [batch, sequence, heads x dim], at both points, and may replace them. */
  readonly keys: (b: Block, keys: Value, heads: Heads, point: Point) => Value
  /** Sees the values, [batch, sequence, heads x dim], as they are about to enter the cache, and may replace them. */
  readonly values: (b: Block, values: Value, heads: Heads) => Value
  /** Sees a recurrent state, [size, channels], after each token, as it is stored until the next, and may replace it. */
  readonly state: (b: Block, name: string, state: Value, dims: StateDims) => Value
}
/** Each channel has a state of this size of its own. */
export type StateDims = readonly [size: number, channels: number]
export const plain: Hooks = {
  linear: (_b, _site, x) => x,
  keys: (_b, keys) => keys,
  values: (_b, values) => values,
  state: (_b, _name, state) => state,
}

/** Rotary positions: which tables turn how much of a head. */
export interface Rotary {
  /** Leading channels of a head that are turned; all by default. */
  readonly dim?: number
  /** Pairs are neighbours (0,1), (2,3), … instead of halves of the turned part. */
  readonly interleaved?: boolean
  /** Graph inputs of the tables, [positions, dim / 2]; `cos` and `sin` by default. */
  readonly tables?: readonly [cos: string, sin: string]
}
/** The tokens whose rows an expert computes: those it has a share in. Sizes are known only when it runs. */
export interface Routed {
  /** This expert's share in each token of the call, [tokens]. */
  readonly shares: Value
  /** The routed ones of them, [count] int64. */
  readonly tokens: Value
  /** How many they are, [1] int64. */
  readonly count: Value
  /** The tokens whose rows are computed: a lone one is there twice. */
  readonly rows: Value
}
export interface Attention {
  readonly heads: Heads
  readonly rotary?: Rotary
  /** Of the products of queries and keys; 1 / sqrt(dim) by default. */
  readonly scale?: number
  /** Tokens that a token sees, itself included; all by default. */
  readonly window?: number
  /** Scores become c * tanh(score / c) (Gemma 2). */
  readonly softcap?: number
  /** Graph input of the table of what a key adds to its score by its position, [positions, query heads]. */
  readonly alibi?: string
}

export class Block {
  readonly graph: Graph
  readonly weights: Array<Weight> = []
  readonly linears: Array<Linear> = []
  readonly tables: Array<Table> = []
  /** What is put aside for the experts of the layer: columns by name. */
  readonly carries = new Map<string, number>()
  /** Of an expert: the tokens that are the rows of its linears. */
  routed: Routed | undefined = undefined
  readonly #hooks: Hooks
  readonly #prefix: string
  /** Of the weights so far: a family may have one for each head. */
  readonly #named = new Set<string>()
  /** `prefix` keeps the inputs of two models apart that share a graph. */
  constructor(hooks: Hooks, graph = new Graph(), prefix = "") {
    this.#hooks = hooks
    this.graph = graph
    this.#prefix = prefix
  }

  weight(name: string, shape: ReadonlyArray<number>, transposed = false): Value {
    if (!this.#named.has(name)) this.weights.push({ name, shape, transposed })
    this.#named.add(name)
    return this.graph.input(this.#prefix + name, "float32", shape)
  }

  /**
   * [tokens, in] -> [tokens, out]. `bias` says whether the checkpoint has `<site>.bias`; `weight` names the tensor where
   * it is not `<site>.weight` (a head tied to the embedding); `transposed` says that it is stored as [in, out]; `byName`
   * that it is quantized only where it is selected by name.
   */
  linear(
    site: string,
    shape: readonly [outFeatures: number, inFeatures: number],
    x: Value,
    options: {
      readonly bias: boolean
      readonly weight?: string
      readonly transposed?: boolean
      readonly byName?: boolean
    },
  ): Value {
    const weight = options.weight ?? `${site}.weight`
    this.linears.push({ site, weight, shape, input: x, byName: options.byName ?? false })
    const inputs = [this.#hooks.linear(this, site, x, shape[1]), this.weight(weight, shape, options.transposed)]
    if (options.bias) inputs.push(this.weight(`${site}.bias`, [shape[0]]))
    return this.graph.op("Gemm", inputs, { transB: 1 }, site)
  }

  /** `indices` [batch, sequence] -> rows of the table, [batch, sequence, columns]. */
  lookup(
    site: string,
    shape: readonly [rows: number, columns: number],
    indices: Value,
    by: Table["by"] = "token",
  ): Value {
    const weight = `${site}.weight`
    this.tables.push({ by, site, weight, shape })
    return this.graph.op("Gather", [this.weight(weight, shape), indices], { axis: 0 }, site)
  }

  /** x / sqrt(mean(x^2) + eps) * g over the last axis (Zhang & Sennrich 2019). `offset` is added to the gain. */
  rmsNorm(site: string, size: number, epsilon: number, x: Value, offset = 0): Value {
    const stored = this.weight(`${site}.weight`, [size])
    const gain = offset === 0 ? stored : this.add(stored, this.graph.scalar(offset))
    return this.graph.op("RMSNormalization", [x, gain], { axis: -1, epsilon: { float: epsilon } }, site)
  }

  /** (x - mean) / sqrt(variance + eps) * g + b over the last axis (Ba et al. 2016); g is 1 without a `weight`. */
  layerNorm(
    site: string,
    size: number,
    epsilon: number,
    x: Value,
    options: { readonly bias: boolean; readonly weight?: boolean },
  ): Value {
    const ones = () =>
      this.graph.constant(
        "float32",
        Array.from({ length: size }, () => 1),
        [size],
      )
    const inputs = [x, options.weight === false ? ones() : this.weight(`${site}.weight`, [size])]
    if (options.bias) inputs.push(this.weight(`${site}.bias`, [size]))
    return this.graph.op("LayerNormalization", inputs, { axis: -1, epsilon: { float: epsilon } }, site)
  }

  add(a: Value, b: Value): Value {
    return this.graph.op("Add", [a, b])
  }
  multiply(a: Value, b: Value): Value {
    return this.graph.op("Mul", [a, b])
  }
  /** x times a constant. */
  scale(x: Value, by: number): Value {
    return this.graph.op("Mul", [x, this.graph.scalar(by)])
  }
  /** x * sigmoid(x). */
  silu(x: Value): Value {
    return this.graph.op("QuickGelu", [x], { alpha: { float: 1 } })
  }
  relu(x: Value): Value {
    return this.graph.op("Relu", [x])
  }
  /**
   * log(1 + exp(x)) = max(x, 0) + log(1 + u) with u = exp(-|x|). What rounding takes from 1 + u is added to its
   * logarithm, or small values would be off by a thousandth.
   */
  softplus(x: Value): Value {
    const { graph } = this
    const one = graph.scalar(1)
    const u = graph.op("Exp", [graph.op("Neg", [graph.op("Abs", [x])])])
    const sum = this.add(u, one)
    const lost = graph.op("Sub", [u, graph.op("Sub", [sum, one])])
    return this.add(this.relu(x), this.add(graph.op("Log", [sum]), lost))
  }
  /** x Φ(x), exactly or by its tanh approximation (Hendrycks & Gimpel 2016). */
  gelu(x: Value, approximate: "none" | "tanh"): Value {
    return this.graph.op("Gelu", [x], { approximate })
  }
  /** c * tanh(x / c). */
  softcap(x: Value, c: number): Value {
    return this.scale(this.graph.op("Tanh", [this.graph.op("Div", [x, this.graph.scalar(c)])]), c)
  }

  /** Parts of an axis, of these sizes. */
  split(x: Value, sizes: ReadonlyArray<number>, axis = -1): ReadonlyArray<Value> {
    return this.graph.ops("Split", [x, this.graph.ints(...sizes)], sizes.length, { axis })
  }
  /** `x` with other sizes; 0 keeps the size of that axis, -1 takes what remains. */
  reshape(x: Value, ...sizes: ReadonlyArray<number>): Value {
    return this.graph.op("Reshape", [x, this.graph.ints(...sizes)])
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

  /** Position of each token in its sequence, [batch, sequence] int64. */
  positions(): Value {
    return this.graph.input("positions", "int64", ["batch", "sequence"])
  }
  /** Tokens of each sequence among those of this call, [batch] int32: what follows them is padding. */
  valid(): Value {
    return this.graph.input("valid", "int32", ["batch"])
  }

  /** Puts [batch, sequence, columns] aside for the experts of the layer. */
  carry(name: string, value: Value, columns: number): void {
    this.carries.set(name, columns)
    this.graph.output(`carry.${name}`, value, "float32", ["batch", "sequence", columns])
  }
  /** What the layer's block has put aside. */
  carried(name: string, columns: number): Value {
    return this.graph.input(`carry.${name}`, "float32", ["batch", "sequence", columns])
  }
  /** Which expert this is, a scalar int64. */
  expert(): Value {
    return this.graph.input("expert", "int64", [])
  }

  /**
   * Chooses the tokens of an expert: `shares` [batch, sequence, experts] is each expert's in each token, 0 where it has
   * none. From here on the rows of linears are the routed ones. There may be none of them, but never one: a lone
   * product would be rounded in another way (`FEWEST_ROWS` of `compute/Batch.ts`), so it is made twice.
   */
  route(shares: Value, experts: number): Routed {
    const { graph } = this
    const own = graph.op("Gather", [this.flatten(shares, experts), this.expert()], { axis: 1 })
    const tokens = graph.op("Reshape", [graph.op("NonZero", [own]), graph.ints(-1)])
    const count = graph.op("Shape", [tokens])
    const twice = graph.op("Concat", [tokens, tokens], { axis: 0 })
    const lone = graph.op("Min", [graph.op("Add", [count, count]), graph.ints(2)])
    const rows = graph.op("Slice", [twice, graph.ints(0), graph.op("Max", [count, lone])])
    this.routed = { shares: own, tokens, count, rows }
    return this.routed
  }
  /** [batch, sequence, size] -> the routed rows, [rows, size]. `site` is that of the op that made `x` in the block. */
  dispatch(routed: Routed, x: Value, size: number, site: string): Value {
    return this.graph.op("Gather", [this.flatten(x, size), routed.rows], { axis: 0 }, site)
  }
  /** `hidden` [batch, sequence, size] plus the routed rows [rows, size], each times the expert's share in its token. */
  combine({ count, shares, tokens }: Routed, hidden: Value, rows: Value, size: number): Value {
    const { graph } = this
    const own = graph.op("Slice", [rows, graph.ints(0), count])
    const share = graph.op("Unsqueeze", [graph.op("Gather", [shares, tokens], { axis: 0 }), graph.ints(1)])
    const at = graph.op("Unsqueeze", [tokens, graph.ints(1)])
    const inputs = [this.flatten(hidden, size), at, graph.op("Mul", [own, share])]
    return this.unflatten(graph.op("ScatterND", inputs, { reduction: "add" }), size, hidden)
  }

  /** A recurrent state as the tokens before have left it, [batch, ...dims]; zeros before the first. */
  past(name: string, dims: ReadonlyArray<number>): Value {
    return this.graph.input(`past.${name}`, "float32", ["batch", ...dims])
  }
  /** The same state after the valid tokens of this call. */
  keep(name: string, value: Value, dims: ReadonlyArray<number>): void {
    this.graph.output(`state.${name}`, value, "float32", ["batch", ...dims])
  }

  /** A state of one sequence between two of its tokens: what the next token finds. */
  store(name: string, state: Value, dims: StateDims): Value {
    return this.#hooks.state(this, name, state, dims)
  }
  /** The same hooks inside the body of a loop. */
  within(body: Graph): Block {
    return new Block(this.#hooks, body)
  }

  /** Turns the heads of [batch, sequence, count x dim] by the positions of their tokens. */
  rotate(x: Value, count: number, dim: number, { dim: turned = dim, interleaved = false, tables }: Rotary): Value {
    const table = (name: string) => this.graph.input(name, "float32", ["positions", turned / 2])
    const [cos, sin] = tables ?? ["cos", "sin"]
    return this.graph.op("RotaryEmbedding", [x, table(cos), table(sin), this.positions()], {
      num_heads: count,
      ...(interleaved && { interleaved: 1 }),
      ...(turned !== dim && { rotary_embedding_dim: turned }),
    })
  }

  /**
   * Causal attention. `q` [batch, sequence, query x dim], `k` and `v` [batch, sequence, keyValue x dim]; earlier keys and
   * values enter as `pastKey` and `pastValue` [batch, keyValue, capacity, dim]. `lengths + 1` of each sequence are live
   * with those of this call, which leave as `key` and `value` [batch, sequence, keyValue x dim]: the caller appends them
   * to what is past.
   */
  attention(q: Value, k: Value, v: Value, { heads, rotary, ...rest }: Attention): Value {
    const { graph } = this
    const { dim, keyValue, query } = heads
    const { alibi, scale = 1 / Math.sqrt(dim), softcap, window } = rest
    const turn = (x: Value, count: number) => (rotary === undefined ? x : this.rotate(x, count, dim, rotary))
    const turned = turn(this.#hooks.keys(this, k, heads, "before-rope"), keyValue)
    const key = this.#hooks.keys(this, turned, heads, "after-rope")
    const value = this.#hooks.values(this, v, heads)
    const padded = paddedDim(dim)
    const cache = ["batch", keyValue, "capacity", padded] as const
    const freshKey = this.#pad(key, keyValue, dim, padded)
    const freshValue = this.#pad(value, keyValue, dim, padded)
    const turnedQuery = this.#pad(turn(q, query), query, dim, padded)
    const pastKey = graph.input("pastKey", "float32", cache)
    const inputs = [
      turnedQuery,
      freshKey,
      freshValue,
      pastKey,
      graph.input("pastValue", "float32", cache),
      graph.input("lengths", "int32", ["batch"]),
      graph.input("total", "int32", []),
    ]
    const attributes = {
      num_heads: query,
      kv_num_heads: keyValue,
      scale: { float: scale },
      ...(window !== undefined && { local_window_size: window }),
      ...(softcap !== undefined && { softcap: { float: softcap } }),
    }
    // Cosine and sine caches and positions are the op's own rotary embedding, which is not used.
    const biased =
      alibi === undefined
        ? inputs
        : [...inputs, undefined, undefined, undefined, this.#alibi(alibi, query, turnedQuery)]
    const general = (graph: Graph) => graph.ops("GroupQueryAttention", biased, 3, attributes)[0]!
    const wide = { query, keyValue, dim: padded }
    const out =
      softcap === undefined
        ? general(graph)
        : this.#unlessEmpty(pastKey, general, (body) =>
            Softcap.attention(body, turnedQuery, freshKey, freshValue, { heads: wide, scale, softcap, window }),
          )
    const fresh = ["batch", "sequence", keyValue * padded]
    graph.output("key", freshKey, "float32", fresh)
    graph.output("value", freshValue, "float32", fresh)
    return this.#unpad(out, query, dim, padded)
  }

  /** `otherwise` where the cache has no room, as in the pass over a prompt, else `general`: [batch, sequence, columns]. */
  #unlessEmpty(cache: Value, general: (body: Graph) => Value, otherwise: (body: Graph) => Value): Value {
    const { graph } = this
    const branch = (draw: (body: Graph) => Value) => {
      const body = graph.body()
      body.output("out", draw(body), "float32", ["batch", "sequence", "columns"])
      return body
    }
    const capacity = graph.op("Squeeze", [graph.op("Shape", [cache], { start: 2, end: 3 })])
    const some = graph.cast(capacity, "bool")
    return graph.op("If", [some], { then_branch: branch(general), else_branch: branch(otherwise) })
  }

  /** The rows of the table up to the last key, for every token of `queries` alike: [1, heads, sequence, total]. */
  #alibi(table: string, heads: number, queries: Value): Value {
    const { graph } = this
    const rows = graph.input(table, "float32", ["positions", heads])
    const int = (value: number) => graph.constant("int32", [value], [1])
    const total = graph.op("Reshape", [graph.input("total", "int32", []), graph.ints(1)])
    const live = graph.op("Slice", [rows, int(0), total, int(0)])
    const bias = graph.op("Unsqueeze", [graph.op("Transpose", [live], { perm: [1, 0] }), graph.ints(0, 2)])
    const length = graph.op("Shape", [queries], { start: 1, end: 2 })
    const sizes = graph.op("Concat", [graph.ints(1, heads), length, graph.ints(1)], { axis: 0 })
    return graph.op("Expand", [bias, sizes])
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
