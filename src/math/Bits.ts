/**
 * Codes of 1 to 8 bits as a dense byte stream: code i occupies bits [i*b, (i+1)*b) of the stream, least significant
 * bit first, so code 0 of a 4-bit row is the low nibble of byte 0. Codes of 3, 5, 6 and 7 bits straddle bytes. The last
 * byte is filled up with zeros.
 */

/** Bytes that `count` codes of `bits` bits take. */
export const packedBytes = (count: number, bits: number): number => Math.ceil((count * bits) / 8)

/** codes[0, count) -> out[offset, offset + packedBytes(count, bits)). Every code must be below 2^bits. */
export const pack = (codes: Uint8Array, count: number, bits: number, out: Uint8Array, offset: number): void => {
  if (bits === 8) out.set(codes.subarray(0, count), offset)
  else if (bits === 4) packNibbles(codes, count, out, offset)
  else packStream(codes, count, bits, out, offset)
}

/** packed[offset, …) -> codes[0, count); the inverse of `pack`. */
export const unpack = (packed: Uint8Array, offset: number, count: number, bits: number, codes: Uint8Array): void => {
  if (bits === 8) codes.set(packed.subarray(offset, offset + count))
  else if (bits === 4) unpackNibbles(packed, offset, count, codes)
  else unpackStream(packed, offset, count, bits, codes)
}

const packNibbles = (codes: Uint8Array, count: number, out: Uint8Array, offset: number): void => {
  const even = count & ~1
  for (let i = 0; i < even; i += 2) out[offset++] = codes[i]! | (codes[i + 1]! << 4)
  if (even < count) out[offset] = codes[even]!
}

const unpackNibbles = (packed: Uint8Array, offset: number, count: number, codes: Uint8Array): void => {
  const even = count & ~1
  for (let i = 0; i < even; i += 2) {
    const byte = packed[offset++]!
    codes[i] = byte & 15
    codes[i + 1] = byte >> 4
  }
  if (even < count) codes[even] = packed[offset]! & 15
}

const packStream = (codes: Uint8Array, count: number, bits: number, out: Uint8Array, offset: number): void => {
  let pending = 0
  let held = 0
  for (let i = 0; i < count; i++) {
    pending |= codes[i]! << held
    held += bits
    if (held >= 8) {
      out[offset++] = pending
      pending >>= 8
      held -= 8
    }
  }
  if (held > 0) out[offset] = pending
}

const unpackStream = (packed: Uint8Array, offset: number, count: number, bits: number, codes: Uint8Array): void => {
  const mask = (1 << bits) - 1
  let pending = 0
  let held = 0
  for (let i = 0; i < count; i++) {
    if (held < bits) {
      pending |= packed[offset++]! << held
      held += 8
    }
    codes[i] = pending & mask
    pending >>= bits
    held -= bits
  }
}
