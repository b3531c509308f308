/**
 * Integers of 1 to 8 bits on an affine grid, w' = (q - z) * s.
 *
 *     codes    row by row, each row a dense little-endian bit stream filled up to a whole byte (`math/Bits.ts`)
 *     scales   float32, one per group, in the order of the weights
 *     zeros    one byte per group when asymmetric; empty when symmetric, where z is 2^(bits-1)
 */
import { dequantizeRows, groupCount, quantize, type Grid, type Group } from "../math/Affine.ts"
import { packedBytes } from "../math/Bits.ts"
import * as Format from "./Format.ts"

export interface Params extends Grid {
  readonly group: Group
}

/** Bytes as float32; copied only when they do not start on a multiple of four. */
const asFloat32 = (bytes: Uint8Array): Float32Array => {
  const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice()
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4)
}

export default Format.make<Params>({
  description: "integers of 1 to 8 bits with a scale and a zero point per group",
  sizes: ({ rows, cols }, { bits, symmetric, group }) => {
    const groups = groupCount(group, rows, cols)
    return { codes: rows * packedBytes(cols, bits), scales: 4 * groups, zeros: symmetric ? 0 : groups }
  },
  encode: (weights, { rows, cols }, { group, ...grid }) => {
    const { codes, scales, zeros } = quantize(weights, rows, cols, grid, group)
    return { codes, scales: new Uint8Array(scales.buffer), zeros }
  },
  decodeRows: ({ codes, scales, zeros }, { rows, cols }, { group, ...grid }, first, last, out) =>
    dequantizeRows({ rows, cols, grid, group, codes, scales: asFloat32(scales), zeros }, first, last, out),
})
