/**
 * Whatever a checkpoint stores a weight in -> float32: floating point, integers, and ggml's blocks. Float64 and integers
 * beyond 2^24 are rounded to the nearest float32.
 */
import * as Ggml from "./Ggml.ts"

type Wide = "F64" | "I64" | "I32" | "I16" | "I8" | "U8"
/** The types a weight may be stored in, by the names of safetensors and of ggml. */
export type Dtype = Ggml.Weight | Wide

const WIDE: {
  readonly [dtype in Wide]: { readonly bytes: number; readonly at: (view: DataView, byte: number) => number }
} = {
  F64: { bytes: 8, at: (view, byte) => view.getFloat64(byte, true) },
  I64: { bytes: 8, at: (view, byte) => Number(view.getBigInt64(byte, true)) },
  I32: { bytes: 4, at: (view, byte) => view.getInt32(byte, true) },
  I16: { bytes: 2, at: (view, byte) => view.getInt16(byte, true) },
  I8: { bytes: 1, at: (view, byte) => view.getInt8(byte) },
  U8: { bytes: 1, at: (view, byte) => view.getUint8(byte) },
}
const isWide = (dtype: string): dtype is Wide => Object.hasOwn(WIDE, dtype)

export const DTYPES: ReadonlyArray<Dtype> = [
  ...Ggml.DTYPES.filter(Ggml.isWeight),
  ...(Object.keys(WIDE) as ReadonlyArray<Wide>),
]

export const isDtype = (dtype: string): dtype is Dtype => isWide(dtype) || Ggml.isWeight(dtype)

/** Elements that are stored together, and the bytes that they take. */
export const blockOf = (dtype: Dtype): Ggml.Block =>
  isWide(dtype) ? { elements: 1, bytes: WIDE[dtype].bytes } : Ggml.blockOf(dtype)!

/** Whole blocks -> float32 in out[0, elements). */
export const toFloat32 = (dtype: Dtype, stored: Uint8Array, out: Float32Array): void => {
  if (!isWide(dtype)) return Ggml.dequantize(dtype, stored, out)
  const { at, bytes } = WIDE[dtype]
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength)
  for (let i = 0; i * bytes < stored.length; i++) out[i] = at(view, i * bytes)
}

/** Index of the first element (or of the first of a block) that is no finite float32, or -1. */
export const firstNonFinite = (dtype: Dtype, stored: Uint8Array): number => {
  if (!isWide(dtype)) return Ggml.firstNonFinite(dtype, stored)
  if (dtype !== "F64") return -1
  const view = new DataView(stored.buffer, stored.byteOffset, stored.byteLength)
  for (let i = 0; i * 8 < stored.length; i++) if (!Number.isFinite(Math.fround(view.getFloat64(i * 8, true)))) return i
  return -1
}
