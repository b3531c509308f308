/**
 * Sixteen-bit floating point (IEEE binary16 and bfloat16) and float32, as the little-endian bytes of a checkpoint.
 * Widening is exact; narrowing rounds half to even.
 */

/** The element types a weight may be stored in. */
export type Dtype = "F32" | "F16" | "BF16"

/** Bytes of one element. */
export const elementBytes = (dtype: Dtype): number => (dtype === "F32" ? 4 : 2)

/** binary16 bits -> its value: 5 exponent bits with bias 15, 10 mantissa bits, subnormals, infinities, NaN. */
const widen = (half: number): number => {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 31
  const mantissa = half & 1023
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : NaN
  return exponent === 0 ? sign * mantissa * 2 ** -24 : sign * (1024 + mantissa) * 2 ** (exponent - 25)
}

const WIDENED = Float32Array.from({ length: 65_536 }, (_, half) => widen(half))

/** F16 bits -> out[0, halves.length). */
export const fromF16 = (halves: Uint16Array, out: Float32Array): void => {
  for (let i = 0; i < halves.length; i++) out[i] = WIDENED[halves[i]!]!
}

/** BF16 bits, which are the upper half of float32's -> out[0, halves.length). */
export const fromBF16 = (halves: Uint16Array, out: Float32Array): void => {
  const bits = new Uint32Array(out.buffer, out.byteOffset, halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16
}

/** F32 -> F16 bits in out[0, values.length), rounded half to even; beyond 65,504 it overflows to infinity. */
export const toF16 = (values: Float32Array, out: Uint16Array): void => {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  for (let i = 0; i < values.length; i++) out[i] = narrow(bits[i]!, Math.abs(values[i]!))
}

const word = new Uint32Array(1)
const single = new Float32Array(word.buffer)

/** The bfloat16 nearest to a finite number, half to even. */
export const toBFloat16 = (value: number): number => {
  single[0] = value
  word[0] = (word[0]! + 0x7fff + ((word[0]! >>> 16) & 1)) & 0xffff_0000
  return single[0]!
}

/** Adding and subtracting 1.5 * 2^52 rounds a double to an integer, half to even. */
const ROUND = 1.5 * 2 ** 52

const narrow = (bits: number, magnitude: number): number => {
  const sign = (bits >>> 16) & 0x8000
  if (Number.isNaN(magnitude)) return sign | 0x7e00
  if (magnitude >= 65_520) return sign | 0x7c00
  // Below 2^-14 a half is a multiple of 2^-24, and the multiple is its bits.
  if (magnitude < 2 ** -14) return sign | (magnitude * 2 ** 24 + ROUND - ROUND)
  // Otherwise drop 13 mantissa bits; the carry of rounding runs into the exponent, as it should.
  const rebiased = (bits & 0x7fff_ffff) - (112 << 23)
  return sign | ((rebiased + 0xfff + ((rebiased >>> 13) & 1)) >>> 13)
}

/** Elements as 16- or 32-bit words; copied only when they do not start on a whole word. */
const words = (dtype: Dtype, bytes: Uint8Array): Uint16Array | Uint32Array => {
  const size = elementBytes(dtype)
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  return size === 4
    ? new Uint32Array(buffer, byteOffset, byteLength / 4)
    : new Uint16Array(buffer, byteOffset, byteLength / 2)
}

/** Little-endian elements -> float32 in out[0, bytes.length / elementBytes(dtype)). */
export const toFloat32 = (dtype: Dtype, bytes: Uint8Array, out: Float32Array): void => {
  if (dtype === "F32") new Uint8Array(out.buffer, out.byteOffset, bytes.length).set(bytes)
  else if (dtype === "F16") fromF16(words(dtype, bytes) as Uint16Array, out)
  else fromBF16(words(dtype, bytes) as Uint16Array, out)
}

const EXPONENT = { F32: 0x7f80_0000, F16: 0x7c00, BF16: 0x7f80 } as const

/** Index of the first NaN or infinity, by its bits (all exponent bits set), or -1. */
export const firstNonFinite = (dtype: Dtype, bytes: Uint8Array): number => {
  const mask = EXPONENT[dtype]
  const elements = words(dtype, bytes)
  return elements instanceof Uint32Array ? findExponent32(elements, mask) : findExponent16(elements, mask)
}

const findExponent32 = (elements: Uint32Array, mask: number): number => {
  for (let i = 0; i < elements.length; i++) if ((elements[i]! & mask) === mask) return i
  return -1
}

const findExponent16 = (elements: Uint16Array, mask: number): number => {
  for (let i = 0; i < elements.length; i++) if ((elements[i]! & mask) === mask) return i
  return -1
}
