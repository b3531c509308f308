/**
 * The integer quantizer of Li et al., "Evaluating Quantized Large Language Models" (ICML 2024), in float32. A group of
 * values shares one scale s and one zero point z; with b bits:
 *
 *     asymmetric   s = max(max - min, 1e-5) / (2^b - 1)
 *                  z = clamp(-round(min / s), 0, 2^b - 1)
 *                  q = clamp(round(x / s) + z, 0, 2^b - 1)
 *     symmetric    s = max(max|x|, 1e-5) / (2^(b-1) - 1)
 *                  z = 2^(b-1), so that codes are unsigned (offset binary)
 *                  q = clamp(round(x / s), -2^(b-1), 2^(b-1) - 1) + z
 *     both         x' = (q - z) * s
 *
 * Rounding is half to even. The published code does not widen [min, max] to hold 0, so the zero point of a group whose
 * values share one sign saturates and the group is reconstructed badly: that is range "compat". Range "fixed" takes
 * min(min, 0) and max(max, 0) first. The symmetric range always holds 0, so there the two agree.
 */
import { pack, packedBytes, unpack } from "./Bits.ts"

/** How the range of an asymmetric group is chosen; see the head of this file. */
export type Range = "compat" | "fixed"

/** What shares a scale: the whole tensor, each row (output channel), or that many contiguous entries of a row. */
export type Group = "tensor" | "channel" | number

/** A grid of 2^bits points. `bits` is 1 to 8; a symmetric grid needs at least 2. */
export interface Grid {
  readonly bits: number
  readonly symmetric: boolean
  readonly range: Range
}

/** A `rows` x `cols` matrix on its grid. */
export interface Quantized {
  readonly rows: number
  readonly cols: number
  readonly grid: Grid
  readonly group: Group
  /** Row by row, each row a byte stream as `Bits.ts` packs it: `rows * packedBytes(cols, bits)` bytes. */
  readonly codes: Uint8Array
  /** One per group, in the order of the weights. */
  readonly scales: Float32Array
  /** One per group when asymmetric; empty when symmetric, where every zero point is 2^(bits-1). */
  readonly zeros: Uint8Array
}

/** A value that no grid can hold. `index` counts over the flattened input. */
export class NonFinite extends Error {
  readonly index: number
  readonly value: number
  constructor(index: number, value: number) {
    super(`value ${index} is ${value}; only finite numbers can be quantized`)
    this.name = "NonFinite"
    this.index = index
    this.value = value
  }
}

/** max - min of a group exceeds float32, so that no scale exists. `index` is the group's first value. */
export class RangeOverflow extends Error {
  readonly index: number
  constructor(index: number, low: number, high: number) {
    super(`the range of the group at value ${index}, from ${low} to ${high}, overflows float32`)
    this.name = "RangeOverflow"
    this.index = index
  }
}

const MINIMUM_RANGE = Math.fround(1e-5)

/** Adding and subtracting 1.5 * 2^52 leaves a double below 2^51 in magnitude rounded to an integer, half to even. */
const ROUND = 1.5 * 2 ** 52

const levelsOf = (bits: number): number => (1 << bits) - 1
const middleOf = (bits: number): number => 1 << (bits - 1)

/** Values that share a scale, in a matrix with rows of `cols`. */
const groupSize = (group: Group, rows: number, cols: number): number =>
  group === "tensor" ? rows * cols : group === "channel" ? cols : group

/** How many scales a `rows` x `cols` matrix has. */
export const groupCount = (group: Group, rows: number, cols: number): number =>
  group === "tensor" ? 1 : group === "channel" ? rows : (rows * cols) / group

const assertValid = (grid: Grid, group: Group, rows: number, cols: number): void => {
  const least = grid.symmetric ? 2 : 1
  if (!Number.isInteger(grid.bits) || grid.bits < least || grid.bits > 8)
    throw new RangeError(`${grid.bits} bits: expected an integer from ${least} to 8`)
  if (rows < 1 || cols < 1) throw new RangeError(`a ${rows} x ${cols} matrix has nothing to quantize`)
  if (typeof group === "number" && !(group >= 1 && cols % group === 0))
    throw new RangeError(`rows of ${cols} do not split into groups of ${group}`)
}

/** Scale and zero point (an integer, in code units) of a group whose values span [low, high]. */
export const scaleAndZero = (
  low: number,
  high: number,
  grid: Grid,
): { readonly scale: number; readonly zero: number } => {
  if (grid.symmetric) {
    const top = middleOf(grid.bits) - 1
    const extent = Math.max(Math.abs(low), Math.abs(high), MINIMUM_RANGE)
    return { scale: Math.fround(extent / top), zero: middleOf(grid.bits) }
  }
  const levels = levelsOf(grid.bits)
  const from = grid.range === "fixed" ? Math.min(low, 0) : low
  const to = grid.range === "fixed" ? Math.max(high, 0) : high
  const scale = Math.fround(Math.max(Math.fround(to - from), MINIMUM_RANGE) / levels)
  const lowest = Math.min(Math.max(Math.fround(from / scale), -levels), 0)
  return { scale, zero: ROUND - (lowest + ROUND) }
}

/**
 * Quantize a row-major `rows` x `cols` matrix. Throws `NonFinite` for NaN and infinities, `RangeOverflow` where
 * max - min is beyond float32, and a RangeError for a grid or group that cannot be.
 */
export const quantize = (weights: Float32Array, rows: number, cols: number, grid: Grid, group: Group): Quantized => {
  assertValid(grid, group, rows, cols)
  if (weights.length !== rows * cols) throw new RangeError(`${weights.length} values are not ${rows} x ${cols}`)
  const size = groupSize(group, rows, cols)
  const span = Math.min(size, cols)
  const levels = levelsOf(grid.bits)
  const rowBytes = packedBytes(cols, grid.bits)
  const codes = new Uint8Array(rows * rowBytes)
  const scales = new Float32Array(groupCount(group, rows, cols))
  const zeros = new Uint8Array(grid.symmetric ? 0 : scales.length)
  const row = new Uint8Array(cols)
  const extent = new Float64Array(2)
  let scale = 0
  let zero = 0
  for (let r = 0, start = 0; r < rows; r++) {
    for (let column = 0; column < cols; column += span, start += span) {
      if (start % size === 0) {
        measure(weights, start, start + size, extent)
        ;({ scale, zero } = scaleAndZero(extent[0]!, extent[1]!, grid))
        if (!Number.isFinite(scale)) throw unquantizable(weights, start, start + size, extent)
        scales[start / size] = scale
        if (!grid.symmetric) zeros[start / size] = zero
      }
      encode(weights, start, start + span, scale, zero, levels, row, column)
    }
    pack(row, cols, grid.bits, codes, r * rowBytes)
  }
  return { rows, cols, grid, group, codes, scales, zeros }
}

/** weights[from, to) -> extent = [min, max]. A NaN makes both NaN. */
const measure = (weights: Float32Array, from: number, to: number, extent: Float64Array): void => {
  let low = Infinity
  let high = -Infinity
  for (let i = from; i < to; i++) {
    const x = weights[i]!
    low = Math.min(low, x)
    high = Math.max(high, x)
  }
  extent[0] = low
  extent[1] = high
}

/**
 * weights[from, to) -> codes[at, at + to - from), one byte each. The quotient of two float32 values, computed in double
 * and rounded once more, is the float32 quotient. It is clamped before it is rounded (the bounds are integers, so the
 * order does not matter), which keeps it where adding `ROUND` rounds.
 */
const encode = (
  weights: Float32Array,
  from: number,
  to: number,
  scale: number,
  zero: number,
  levels: number,
  codes: Uint8Array,
  at: number,
): void => {
  const low = -zero
  const high = levels - zero
  for (let i = from, o = at; i < to; i++, o++) {
    let q = Math.fround(weights[i]! / scale)
    if (q < low) q = low
    else if (q > high) q = high
    codes[o] = q + ROUND - ROUND + zero
  }
}

const unquantizable = (weights: Float32Array, from: number, to: number, extent: Float64Array): Error => {
  for (let i = from; i < to; i++) if (!Number.isFinite(weights[i])) return new NonFinite(i, weights[i]!)
  return new RangeOverflow(from, extent[0]!, extent[1]!)
}

/** Reconstruct the whole matrix into `out` (rows * cols). */
export const dequantize = (quantized: Quantized, out: Float32Array): void =>
  dequantizeRows(quantized, 0, quantized.rows, out)

/** Reconstruct rows [first, last) into `out`, which starts with row `first`. */
export const dequantizeRows = (quantized: Quantized, first: number, last: number, out: Float32Array): void => {
  const { rows, cols, grid, group, codes, scales, zeros } = quantized
  if (!(first >= 0 && first <= last && last <= rows)) throw new RangeError(`no rows ${first} to ${last} among ${rows}`)
  if (out.length < (last - first) * cols) throw new RangeError(`${out.length} values cannot hold rows of ${cols}`)
  const size = groupSize(group, rows, cols)
  const span = Math.min(size, cols)
  const rowBytes = packedBytes(cols, grid.bits)
  const middle = middleOf(grid.bits)
  const row = new Uint8Array(cols)
  for (let r = first, o = 0; r < last; r++) {
    unpack(codes, r * rowBytes, cols, grid.bits, row)
    for (let column = 0; column < cols; column += span, o += span) {
      const g = Math.floor((r * cols + column) / size)
      decode(row, column, span, scales[g]!, grid.symmetric ? middle : zeros[g]!, out, o)
    }
  }
}

/** (q - z) * s is exact in double, so storing it rounds once, as a float32 product does. */
const decode = (
  codes: Uint8Array,
  from: number,
  count: number,
  scale: number,
  zero: number,
  out: Float32Array,
  at: number,
): void => {
  for (let i = from, o = at; i < from + count; i++, o++) out[o] = (codes[i]! - zero) * scale
}
