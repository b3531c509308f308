/**
 * Fake quantization inside the graph: x -> (clamp(round(x / s) + z) - z) * s, computed in float32 with round-half-even,
 * bit for bit the arithmetic of `math/Affine.ts`.
 *
 * `QuantizeLinear` divides (it does not multiply by a reciprocal), rounds half to even, adds the zero point and
 * saturates to 8 bits; narrower codes are clamped after it.
 */
import type { Block, Heads, Hooks, Point, StateDims } from "./Block.ts"
import type { Value } from "./Graph.ts"

export interface Grid {
  readonly bits: number
  readonly symmetric: boolean
  /** `fixed`: the range always contains 0. `compat`: it may not, as in the paper's code. */
  readonly range: "fixed" | "compat"
}
/** One scale and zero point per token, taken from all channels of the token itself. */
export interface Dynamic extends Grid {
  readonly kind: "dynamic"
}
/** One scale and zero point for the whole tensor, known beforehand. */
export interface Static extends Grid {
  readonly kind: "static"
  readonly scale: number
  readonly zero: number
}
export type Activation = Dynamic | Static
export interface KeyValue {
  readonly keys: Grid
  readonly values: Grid
  /** Channels of one head that share a scale. Divides the head. */
  readonly group: number
  /** Where keys are quantized. */
  readonly point: Point
  /** Scale and zero point of each channel of the keys of all heads, known beforehand; else each token has its own. */
  readonly channels?: { readonly scales: ReadonlyArray<number>; readonly zeros: ReadonlyArray<number> }
}

/** A recurrent state as it is stored from each token to the next. */
export interface State extends Grid {
  /** Numbers of one channel's state that share a scale. Divides the state. */
  readonly group: number
}

/**
 * Fake-quantize the inputs of the sites named in `activations`, K and V, before they enter the cache, by `keyValue`, and
 * recurrent states, after each token, by `states`.
 */
export const fakeQuant = (options: {
  readonly activations: { readonly [site: string]: Activation }
  readonly keyValue: KeyValue | undefined
  readonly states?: { readonly [name: string]: State }
}): Hooks => {
  // The same input feeds several linears (q, k, v): quantize it once.
  const done = new Map<string, Value>()
  return {
    linear: (b, site, x) => {
      const quantizer = options.activations[site]
      if (quantizer === undefined) return x
      const key = `${x.name}:${JSON.stringify(quantizer)}`
      const known = done.get(key)
      if (known) return known
      const out = quantizer.kind === "dynamic" ? rows(b, x, quantizer) : whole(b, x, quantizer)
      // What made the input is still what made it.
      const value = { name: out.name, from: x.from }
      done.set(key, value)
      return value
    },
    keys: (b, keys, heads, point) => {
      const { keyValue } = options
      if (keyValue?.point !== point) return keys
      return keyValue.channels === undefined
        ? grouped(b, keys, heads, keyValue.group, keyValue.keys)
        : perChannel(b, keys, keyValue.keys, keyValue.channels)
    },
    values: (b, values, heads) =>
      options.keyValue === undefined
        ? values
        : grouped(b, values, heads, options.keyValue.group, options.keyValue.values),
    state: (b, name, state, dims) => {
      const quantizer = options.states?.[name]
      return quantizer === undefined ? state : channels(b, state, dims, quantizer)
    },
  }
}

/** Each channel of [batch, sequence, channels] by its own scale and zero point. */
const perChannel = (b: Block, x: Value, grid: Grid, { scales, zeros }: NonNullable<KeyValue["channels"]>): Value => {
  const scale = b.graph.constant("float32", scales, [scales.length])
  const zero = grid.symmetric ? undefined : b.graph.constant("uint8", zeros, [zeros.length])
  return encodeDecode(b, x, scale, zero, grid, 2)
}

const grouped = (b: Block, x: Value, heads: Heads, group: number, grid: Grid): Value => {
  const quantized = rows(b, b.flatten(x, group), grid)
  return b.unflatten(quantized, heads.keyValue * heads.dim, x)
}

/** Each channel of [size, channels] in groups of its own. */
const channels = (b: Block, state: Value, [size, count]: StateDims, { group, ...grid }: State): Value => {
  const perm = [1, 0]
  const turned = b.flatten(b.graph.op("Transpose", [state], { perm }), group)
  const quantized = b.reshape(rows(b, turned, grid), count, size)
  return b.graph.op("Transpose", [quantized], { perm })
}

/** Each row of [rows, columns] by its own scale and zero point. */
const rows = (b: Block, x: Value, grid: Grid): Value => {
  const { graph } = b
  const levels = grid.symmetric ? 2 ** (grid.bits - 1) - 1 : 2 ** grid.bits - 1
  const floor = graph.scalar(1e-5)
  const axis = graph.ints(1)
  const reduce = { keepdims: 0 }
  if (grid.symmetric) {
    const absmax = graph.op("ReduceMax", [graph.op("Abs", [x]), axis], reduce)
    const scale = graph.op("Div", [graph.op("Max", [absmax, floor]), graph.scalar(levels)])
    return encodeDecode(b, x, scale, undefined, grid)
  }
  const low = graph.op("ReduceMin", [x, axis], reduce)
  const high = graph.op("ReduceMax", [x, axis], reduce)
  const [min, max] =
    grid.range === "fixed"
      ? [graph.op("Min", [low, graph.scalar(0)]), graph.op("Max", [high, graph.scalar(0)])]
      : [low, high]
  const span = graph.op("Max", [graph.op("Sub", [max, min]), floor])
  const scale = graph.op("Div", [span, graph.scalar(levels)])
  const offset = graph.op("Neg", [graph.op("Round", [graph.op("Div", [min, scale])])])
  const zero = graph.cast(graph.op("Clip", [offset, graph.scalar(0), graph.scalar(levels)]), "uint8")
  return encodeDecode(b, x, scale, zero, grid)
}

const whole = (b: Block, x: Value, grid: Static): Value => {
  const { graph } = b
  const scale = graph.scalar(grid.scale)
  const zero = grid.symmetric ? undefined : graph.constant("uint8", [grid.zero], [])
  return encodeDecode(b, x, scale, zero, grid)
}

const INT8 = 3

const encodeDecode = (b: Block, x: Value, scale: Value, zero: Value | undefined, grid: Grid, axis = 0): Value => {
  const { graph } = b
  const along = { axis }
  if (grid.symmetric) {
    const codes = graph.op("QuantizeLinear", [x, scale], { ...along, output_dtype: INT8 })
    const edge = 2 ** (grid.bits - 1)
    const kept =
      grid.bits === 8
        ? codes
        : graph.op("Clip", [codes, graph.constant("int8", [-edge], []), graph.constant("int8", [edge - 1], [])])
    return graph.op("DequantizeLinear", [kept, scale], along)
  }
  const codes = graph.op("QuantizeLinear", [x, scale, zero], along)
  const kept = grid.bits === 8 ? codes : graph.op("Min", [codes, graph.constant("uint8", [2 ** grid.bits - 1], [])])
  return graph.op("DequantizeLinear", [kept, scale, zero], along)
}
