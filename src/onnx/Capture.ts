/**
 * Calibration: statistics of every linear's input and of K and V, reduced over each sequence inside the graph, so that
 * no activation ever leaves it.
 *
 * Outputs per site and statistic, one row per sequence: `<site>|min`, `|max`, `|s1` … `|s4` (sums of x, x², x³, x⁴ over
 * the sequence), each [batch, channels]; `<site>|gram` is Xᵀ X, [batch, channels, channels]. Rows of different
 * sequences are never mixed, so the batch size cannot change a number, as long as it is not 1: ONNX Runtime adds up
 * the rows of a lone sequence in another order.
 */
import type { Block, Hooks } from "./Block.ts"
import type { Value } from "./Graph.ts"

export const MOMENTS = ["s1", "s2", "s3", "s4"] as const
export const STATISTICS = ["min", "max", ...MOMENTS] as const

/** Sites of the cache rather than of a linear. */
export const isCache = (site: string): boolean => site === "key" || site === "value"

/** One captured tensor: the sites that share it, and its channels. */
export interface Tap {
  readonly sites: Array<string>
  readonly channels: number
}

export const capture = (gram: boolean): { readonly hooks: Hooks; readonly taps: ReadonlyArray<Tap> } => {
  const taps: Array<Tap> = []
  // q, k and v read the same tensor: reduce it once.
  const seen = new Map<string, Tap>()
  const tap = (b: Block, site: string, input: Value, x: () => Value, channels: number, wantGram: boolean) => {
    const known = seen.get(input.name)
    if (known) {
      known.sites.push(site)
      return
    }
    const fresh = { sites: [site], channels }
    seen.set(input.name, fresh)
    taps.push(fresh)
    reduce(b, site, x(), channels, wantGram)
  }
  return {
    taps,
    hooks: {
      linear: (b, site, x, inFeatures) => {
        const hidden = b.graph.input("hidden", "float32", [])
        tap(b, site, x, () => b.unflatten(x, inFeatures, hidden), inFeatures, gram)
        return x
      },
      keys: (b, keys, heads, point) => {
        if (point === "after-rope") tap(b, "key", keys, () => keys, heads.keyValue * heads.dim, false)
        return keys
      },
      values: (b, values, heads) => {
        tap(b, "value", values, () => values, heads.keyValue * heads.dim, false)
        return values
      },
    },
  }
}

const reduce = ({ graph }: Block, site: string, x: Value, channels: number, gram: boolean) => {
  const axis = graph.ints(1)
  const over = { keepdims: 0 }
  const dims = ["batch", channels]
  const square = graph.op("Mul", [x, x])
  const powers = { s1: x, s2: square, s3: graph.op("Mul", [square, x]), s4: graph.op("Mul", [square, square]) }
  graph.output(`${site}|min`, graph.op("ReduceMin", [x, axis], over), "float32", dims)
  graph.output(`${site}|max`, graph.op("ReduceMax", [x, axis], over), "float32", dims)
  for (const name of MOMENTS) {
    graph.output(`${site}|${name}`, graph.op("ReduceSum", [powers[name], axis], over), "float32", dims)
  }
  if (gram) {
    const product = graph.op("MatMul", [graph.op("Transpose", [x], { perm: [0, 2, 1] }), x])
    graph.output(`${site}|gram`, product, "float32", ["batch", channels, channels])
  }
}
