/** Weights per second of the integer quantizer on one core, beside the pass over memory that bounds it. */
import { dequantize, quantize, type Grid, type Group } from "../../src/math/Affine.ts"
import { make } from "../../src/math/Random.ts"
import { fastest, type Row } from "./Row.ts"

const ROWS = 2048
const COLS = 4096
const REPEATS = 7

/** Millions of weights per second. */
const rate = (pass: () => void): number => {
  pass()
  pass()
  return (ROWS * COLS) / fastest(REPEATS, pass) / 1e3
}

/** The least that quantizing does: read every weight once and compare it. */
const extremes = (weights: Float32Array, extent: Float64Array): void => {
  let low = Infinity
  let high = -Infinity
  for (let i = 0; i < weights.length; i++) {
    const x = weights[i]!
    low = Math.min(low, x)
    high = Math.max(high, x)
  }
  extent[0] = low
  extent[1] = high
}

/** Sums of three uniforms: bell-shaped, as trained weights are. */
const bell = (count: number): Float32Array => {
  const random = make(1n)
  return Float32Array.from({ length: count }, () => random.uniform() + random.uniform() + random.uniform() - 1.5)
}

const grid = (bits: number): Grid => ({ bits, symmetric: false, range: "fixed" })

export const bench = (): Promise<ReadonlyArray<Row>> => {
  const weights = bell(ROWS * COLS)
  const out = new Float32Array(weights.length)
  const extent = new Float64Array(2)
  const minMax = rate(() => extremes(weights, extent))
  const copy = rate(() => out.set(weights))
  const encode = (what: string, bits: number, group: Group, bar: number): Row => {
    const value = rate(() => quantize(weights, ROWS, COLS, grid(bits), group))
    return { what: `quantize ${what}`, value, unit: "M weights/s", bar, limit: minMax }
  }
  const decode = (what: string, bits: number, group: Group, bar: number): Row => {
    const quantized = quantize(weights, ROWS, COLS, grid(bits), group)
    return {
      what: `dequantize ${what}`,
      value: rate(() => dequantize(quantized, out)),
      unit: "M weights/s",
      bar,
      limit: copy,
    }
  }
  return Promise.resolve([
    encode("w4-g128", 4, 128, 150),
    encode("w3-g128", 3, 128, 100),
    encode("w8-channel", 8, "channel", 150),
    encode("w4-tensor", 4, "tensor", 100),
    decode("w4-g128", 4, 128, 300),
    decode("w3-g128", 3, 128, 150),
    decode("w8-channel", 8, "channel", 300),
  ])
}
