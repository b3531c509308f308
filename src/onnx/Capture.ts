/**
 * Calibration: statistics of every linear's input and of K and V, reduced over each sequence inside the graph, so that
 * no activation ever leaves it.
 *
 * Outputs per site and statistic, one row per sequence: `<site>|min`, `|max`, `|s1` … `|s4` (sums of x, x², x³, x⁴ over
 * the sequence), each [batch, channels]; `<site>|gram` is Xᵀ X, [batch, channels, channels]. Rows of different
 * sequences are never mixed, so the batch size cannot change a number, as long as it is not 1: ONNX Runtime adds up
 * the rows of a lone sequence in another order.
 *
 * An expert sees the tokens that are routed to it and nothing of the others. Its statistics are of the former alone, and
 * `<site>|count`, [batch], says how many of each sequence they are; where there are none, min is infinite and max is
 * minus infinity.
 */
import type { Block, Hooks } from "./Block.ts"
import type { Value } from "./Graph.ts"

export const MOMENTS = ["s1", "s2", "s3", "s4"] as const
export const STATISTICS = ["min", "max", ...MOMENTS] as const

/** Sites of the cache rather than of a linear. */
export const isCache = (site: string): boolean => ["key", "key-before-rope", "value"].includes(site)

/** One captured tensor: the sites that share it, and its channels. */
export interface Tap {
  readonly sites: Array<string>
  readonly channels: number
  /** Is it an expert's, with its own count of tokens? */
  readonly routed: boolean
}

export const capture = (gram: boolean): { readonly hooks: Hooks; readonly taps: ReadonlyArray<Tap> } => {
  const taps: Array<Tap> = []
  // q, k and v read the same tensor: reduce it once.
  const seen = new Map<string, Tap>()
  const tap = (b: Block, site: string, input: Value, rows: () => Rows, channels: number, wantGram: boolean) => {
    const known = seen.get(input.name)
    if (known) {
      known.sites.push(site)
      return
    }
    const fresh = { sites: [site], channels, routed: b.routed !== undefined }
    seen.set(input.name, fresh)
    taps.push(fresh)
    reduce(b, site, rows(), channels, wantGram)
  }
  return {
    taps,
    hooks: {
      linear: (b, site, x, inFeatures) => {
        tap(b, site, x, () => inSequences(b, x, inFeatures), inFeatures, gram)
        return x
      },
      keys: (b, keys, heads, point) => {
        // Without rotary positions both points are the same tensor, with two names.
        const site = point === "after-rope" ? "key" : "key-before-rope"
        tap(b, site, keys, () => ({ x: keys, live: undefined }), heads.keyValue * heads.dim, false)
        return keys
      },
      values: (b, values, heads) => {
        tap(b, "value", values, () => ({ x: values, live: undefined }), heads.keyValue * heads.dim, false)
        return values
      },
      state: (_b, _name, state) => state,
    },
  }
}

/** [batch, sequence, channels], and which tokens are to be counted, [batch, sequence, 1]: all, or those of an expert. */
interface Rows {
  /** Zeros for the tokens that are not counted. */
  readonly x: Value
  readonly live: Value | undefined
}
const inSequences = (b: Block, x: Value, channels: number): Rows => {
  const { graph, routed } = b
  const hidden = graph.input("hidden", "float32", [])
  if (routed === undefined) return { x: b.unflatten(x, channels, hidden), live: undefined }
  const { count, shares, tokens } = routed
  const dims = graph.op("Concat", [graph.op("Shape", [shares]), graph.ints(channels)], { axis: 0 })
  const own = graph.op("Slice", [x, graph.ints(0), count])
  const at = graph.op("Unsqueeze", [tokens, graph.ints(1)])
  const all = graph.op("ScatterND", [graph.op("ConstantOfShape", [dims]), at, own])
  const live = graph.op("Not", [graph.op("Equal", [shares, graph.scalar(0)])])
  return { x: b.unflatten(all, channels, hidden), live: b.unflatten(live, 1, hidden) }
}

const reduce = ({ graph }: Block, site: string, { live, x }: Rows, channels: number, gram: boolean) => {
  const axis = graph.ints(1)
  const over = { keepdims: 0 }
  const dims = ["batch", channels]
  const or = (bound: number) => (live === undefined ? x : graph.op("Where", [live, x, graph.scalar(bound)]))
  const square = graph.op("Mul", [x, x])
  const powers = { s1: x, s2: square, s3: graph.op("Mul", [square, x]), s4: graph.op("Mul", [square, square]) }
  graph.output(`${site}|min`, graph.op("ReduceMin", [or(Infinity), axis], over), "float32", dims)
  graph.output(`${site}|max`, graph.op("ReduceMax", [or(-Infinity), axis], over), "float32", dims)
  for (const name of MOMENTS) {
    graph.output(`${site}|${name}`, graph.op("ReduceSum", [powers[name], axis], over), "float32", dims)
  }
  if (live !== undefined) {
    const counts = graph.op("ReduceSum", [graph.cast(live, "float32"), graph.ints(1, 2)], over)
    graph.output(`${site}|count`, counts, "float32", ["batch"])
  }
  if (gram) {
    const product = graph.op("MatMul", [graph.op("Transpose", [x], { perm: [0, 2, 1] }), x])
    graph.output(`${site}|gram`, product, "float32", ["batch", channels, channels])
  }
}
