/**
 * ggml's number formats, as the bytes of a GGUF file -> float32. A row is cut into blocks of equal size; a block holds
 * small integers q, packed, and the scales that make them weights:
 *
 *     Q4_0, Q5_0, Q8_0, IQ4_NL   32 elements, w = d q
 *     Q4_1, Q5_1                 32 elements, w = d q + m
 *     Q2_K, Q4_K, Q5_K           256 elements in groups of 16 or 32, w = (d s) q - (dmin m)
 *     Q3_K, Q6_K                 256 elements in groups of 16, w = (d s) q
 *     Q8_K                       256 elements, w = d q
 *
 * d, m, dmin are float16 (float32 in Q8_K); s and m of a group are small integers. Products of a float16 and such integers
 * are exact in float32, so only the last sum rounds, and the result is that of ggml and of its Python package `gguf`
 * (quants.py), bit for bit. Layouts: ggml-common.h.
 */
import { firstNonFinite as firstNonFiniteElement, fromF16, toFloat32 } from "./Half.ts"

/** Elements of a block, and the bytes that store them. */
export interface Block {
  readonly elements: number
  readonly bytes: number
}

const SIZES = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  F64: { elements: 1, bytes: 8 },
  I8: { elements: 1, bytes: 1 },
  I16: { elements: 1, bytes: 2 },
  I32: { elements: 1, bytes: 4 },
  I64: { elements: 1, bytes: 8 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q8_0: { elements: 32, bytes: 34 },
  IQ4_NL: { elements: 32, bytes: 18 },
  Q2_K: { elements: 256, bytes: 84 },
  Q3_K: { elements: 256, bytes: 110 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
  Q8_K: { elements: 256, bytes: 292 },
} as const satisfies { readonly [dtype: string]: Block }

/** The types known here. */
export type Dtype = keyof typeof SIZES
export const DTYPES = Object.keys(SIZES) as ReadonlyArray<Dtype>

/** Those that weights are stored in: integers are none, and float64 would not fit into float32. */
export type Weight = Exclude<Dtype, "F64" | "I8" | "I16" | "I32" | "I64">

export const blockOf = (dtype: string): Block | undefined =>
  Object.hasOwn(SIZES, dtype) ? SIZES[dtype as Dtype] : undefined

export const isWeight = (dtype: string): dtype is Weight =>
  dtype === "F32" || dtype === "F16" || dtype === "BF16" || Object.hasOwn(KERNELS, dtype)

/** float16 bits -> value. */
const HALF = new Float32Array(65_536)
fromF16(
  Uint16Array.from(HALF, (_, bits) => bits),
  HALF,
)

const half = (b: Uint8Array, at: number): number => HALF[b[at]! | (b[at + 1]! << 8)]!
const word = (b: Uint8Array, at: number): number => b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)
const signed = (b: Uint8Array): Int8Array => new Int8Array(b.buffer, b.byteOffset, b.length)

/** Whole blocks -> out[0, elements), synchronous and without allocation per block. */
type Kernel = (stored: Uint8Array, out: Float32Array) => void

/** d | 16 bytes: elements i and i + 16 are the low and the high half of byte i. */
const q4_0: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 18, o += 32) {
    const d = half(b, at)
    for (let i = 0; i < 16; i++) {
      const q = b[at + 2 + i]!
      out[o + i] = d * ((q & 15) - 8)
      out[o + 16 + i] = d * ((q >> 4) - 8)
    }
  }
}

/** d | m | 16 bytes, as in Q4_0. */
const q4_1: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 20, o += 32) {
    const d = half(b, at)
    const m = half(b, at + 2)
    for (let i = 0; i < 16; i++) {
      const q = b[at + 4 + i]!
      out[o + i] = d * (q & 15) + m
      out[o + 16 + i] = d * (q >> 4) + m
    }
  }
}

/** d | the fifth bits, bit i that of element i | 16 bytes, as in Q4_0. */
const q5_0: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 22, o += 32) {
    const d = half(b, at)
    const high = word(b, at + 2)
    for (let i = 0; i < 16; i++) {
      const q = b[at + 6 + i]!
      out[o + i] = d * (((q & 15) | (((high >>> i) & 1) << 4)) - 16)
      out[o + 16 + i] = d * (((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16)
    }
  }
}

/** d | m | fifth bits | 16 bytes, as in Q5_0. */
const q5_1: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 24, o += 32) {
    const d = half(b, at)
    const m = half(b, at + 2)
    const high = word(b, at + 4)
    for (let i = 0; i < 16; i++) {
      const q = b[at + 8 + i]!
      out[o + i] = d * ((q & 15) | (((high >>> i) & 1) << 4)) + m
      out[o + 16 + i] = d * ((q >> 4) | (((high >>> (i + 16)) & 1) << 4)) + m
    }
  }
}

/** d | 32 signed bytes. */
const q8_0: Kernel = (b, out) => {
  const q = signed(b)
  for (let at = 0, o = 0; at < b.length; at += 34, o += 32) {
    const d = half(b, at)
    for (let i = 0; i < 32; i++) out[o + i] = d * q[at + 2 + i]!
  }
}

/** What the 16 codes of IQ4_NL stand for. */
const CODES = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

/** d | 16 bytes of codes, as in Q4_0. */
const iq4_nl: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 18, o += 32) {
    const d = half(b, at)
    for (let i = 0; i < 16; i++) {
      const q = b[at + 2 + i]!
      out[o + i] = d * CODES[q & 15]!
      out[o + 16 + i] = d * CODES[q >> 4]!
    }
  }
}

/**
 * 16 bytes of group scale (low half) and group minimum (high half) | 64 bytes | d | dmin. Byte i of a run of 32 holds two
 * bits each of the elements i, i + 32, i + 64, i + 96 of its 128.
 */
const q2_k: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 84, o += 256) {
    const d = half(b, at + 80)
    const dmin = half(b, at + 82)
    for (let group = 0; group < 16; group++) {
      const scale = d * (b[at + group]! & 15)
      const least = dmin * (b[at + group]! >> 4)
      const from = at + 16 + (group >> 3) * 32 + (group & 1) * 16
      const shift = group & 6
      const to = o + group * 16
      for (let i = 0; i < 16; i++) out[to + i] = scale * ((b[from + i]! >> shift) & 3) - least
    }
  }
}

/**
 * 32 bytes of third bits, bit k of byte i that of element 32 k + i, set where q >= 0 | 64 bytes, as in Q2_K | 12 bytes of
 * six-bit group scales: low halves of 8 bytes, high halves of the same, then two bits each | d.
 */
const q3_k: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 110, o += 256) {
    const d = half(b, at + 108)
    for (let group = 0; group < 16; group++) {
      const low = (b[at + 96 + (group & 7)]! >> ((group >> 3) * 4)) & 15
      const high = (b[at + 104 + (group & 3)]! >> ((group >> 2) * 2)) & 3
      const scale = d * ((low | (high << 4)) - 32)
      const from = at + 32 + (group >> 3) * 32 + (group & 1) * 16
      const shift = group & 6
      const mask = at + (group & 1) * 16
      const bit = group >> 1
      const to = o + group * 16
      for (let i = 0; i < 16; i++) {
        out[to + i] = scale * (((b[from + i]! >> shift) & 3) - 4 + (((b[mask + i]! >> bit) & 1) << 2))
      }
    }
  }
}

/** Six-bit scales and minima of 8 groups in 12 bytes: of groups 0 to 3 whole, of groups 4 to 7 in the bits left over. */
const scaleOf = (b: Uint8Array, at: number, group: number): number =>
  group < 4 ? b[at + group]! & 63 : (b[at + 4 + group]! & 15) | ((b[at + group - 4]! >> 2) & 48)
const minimumOf = (b: Uint8Array, at: number, group: number): number =>
  group < 4 ? b[at + 4 + group]! & 63 : (b[at + 4 + group]! >> 4) | ((b[at + group]! >> 2) & 48)

/** d | dmin | 12 bytes of group scales | 128 bytes: byte i of a run of 32 holds elements i and i + 32 of its 64. */
const q4_k: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 144, o += 256) {
    const d = half(b, at)
    const dmin = half(b, at + 2)
    for (let group = 0; group < 8; group++) {
      const scale = d * scaleOf(b, at + 4, group)
      const least = dmin * minimumOf(b, at + 4, group)
      const from = at + 16 + (group >> 1) * 32
      const shift = (group & 1) * 4
      const to = o + group * 32
      for (let i = 0; i < 32; i++) out[to + i] = scale * ((b[from + i]! >> shift) & 15) - least
    }
  }
}

/** d | dmin | 12 bytes of group scales | 32 bytes of fifth bits, as the third bits of Q3_K | 128 bytes, as in Q4_K. */
const q5_k: Kernel = (b, out) => {
  for (let at = 0, o = 0; at < b.length; at += 176, o += 256) {
    const d = half(b, at)
    const dmin = half(b, at + 2)
    for (let group = 0; group < 8; group++) {
      const scale = d * scaleOf(b, at + 4, group)
      const least = dmin * minimumOf(b, at + 4, group)
      const high = at + 16
      const from = at + 48 + (group >> 1) * 32
      const shift = (group & 1) * 4
      const to = o + group * 32
      for (let i = 0; i < 32; i++) {
        const q = ((b[from + i]! >> shift) & 15) | (((b[high + i]! >> group) & 1) << 4)
        out[to + i] = scale * q - least
      }
    }
  }
}

/**
 * 128 bytes: byte i of a run of 64 holds the low halves of the elements i and i + 64 of its 128 | 64 bytes of the two high
 * bits, as in Q2_K | 16 signed group scales | d.
 */
const q6_k: Kernel = (b, out) => {
  const scales = signed(b)
  for (let at = 0, o = 0; at < b.length; at += 210, o += 256) {
    const d = half(b, at + 208)
    for (let group = 0; group < 16; group++) {
      const scale = d * scales[at + 192 + group]!
      const low = at + (group >> 3) * 64 + (group & 3) * 16
      const nibble = group & 4
      const high = at + 128 + (group >> 3) * 32 + (group & 1) * 16
      const shift = group & 6
      const to = o + group * 16
      for (let i = 0; i < 16; i++) {
        const q = ((b[low + i]! >> nibble) & 15) | (((b[high + i]! >> shift) & 3) << 4)
        out[to + i] = scale * (q - 32)
      }
    }
  }
}

const FLOAT = new Float32Array(1)
const FLOAT_BITS = new Int32Array(FLOAT.buffer)
const float = (b: Uint8Array, at: number): number => {
  FLOAT_BITS[0] = word(b, at)
  return FLOAT[0]!
}

/** d, float32 | 256 signed bytes | 16 sums of 16, 16 bits each, which only products use. */
const q8_k: Kernel = (b, out) => {
  const q = signed(b)
  for (let at = 0, o = 0; at < b.length; at += 292, o += 256) {
    const d = float(b, at)
    for (let i = 0; i < 256; i++) out[o + i] = d * q[at + 4 + i]!
  }
}

const KERNELS = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  IQ4_NL: iq4_nl,
  Q2_K: q2_k,
  Q3_K: q3_k,
  Q4_K: q4_k,
  Q5_K: q5_k,
  Q6_K: q6_k,
  Q8_K: q8_k,
} as const

const wholeBlocks = (dtype: Weight, stored: Uint8Array): number => {
  const { elements, bytes } = SIZES[dtype]
  if (stored.length % bytes !== 0)
    throw new RangeError(`${stored.length} bytes are not whole blocks of ${dtype}, ${bytes} bytes each`)
  return (stored.length / bytes) * elements
}

/** Whole blocks -> float32 in out[0, elements). Throws a RangeError where the sizes do not fit. */
export const dequantize = (dtype: Weight, stored: Uint8Array, out: Float32Array): void => {
  const elements = wholeBlocks(dtype, stored)
  if (elements > out.length) throw new RangeError(`${elements} elements do not fit into ${out.length}`)
  if (dtype === "F32" || dtype === "F16" || dtype === "BF16") toFloat32(dtype, stored, out)
  else KERNELS[dtype](stored, out)
}

/** Where the float16 scales of a block are. */
const HALVES: { readonly [dtype in Exclude<keyof typeof KERNELS, "Q8_K">]: ReadonlyArray<number> } = {
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q8_0: [0],
  IQ4_NL: [0],
  Q2_K: [80, 82],
  Q3_K: [108],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
}

/**
 * Index of the first element that is NaN or infinite, or of the first element of the first block with such a scale; -1
 * where there is none. Finite float16 scales only make finite weights; for Q8_K a scale counts that 128 takes beyond
 * float32.
 */
export const firstNonFinite = (dtype: Weight, stored: Uint8Array): number => {
  if (dtype === "F32" || dtype === "F16" || dtype === "BF16") return firstNonFiniteElement(dtype, stored)
  wholeBlocks(dtype, stored)
  const { elements, bytes } = SIZES[dtype]
  for (let at = 0, first = 0; at < stored.length; at += bytes, first += elements) {
    if (dtype === "Q8_K") {
      if (!Number.isFinite(Math.fround(float(stored, at) * 128))) return first
    } else for (const scale of HALVES[dtype]) if ((stored[at + scale + 1]! & 0x7c) === 0x7c) return first
  }
  return -1
}
