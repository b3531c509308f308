/** Harm done to the bytes of a safetensors file. */
const headerOf = (bytes: Buffer) => {
  const length = Number(bytes.readBigUInt64LE(0))
  return { header: JSON.parse(bytes.toString("utf8", 8, 8 + length)), end: 8 + length }
}

/** The header changed; the data stays as it is. */
export const header =
  (change: (header: any) => unknown) =>
  (bytes: Buffer): Buffer => {
    const { end, header } = headerOf(bytes)
    change(header)
    const text = Buffer.from(JSON.stringify(header))
    const start = Buffer.alloc(8)
    start.writeBigUInt64LE(BigInt(text.length))
    return Buffer.concat([start, text, bytes.subarray(end)])
  }

/** A header length that is not the header's. */
export const length =
  (length: bigint) =>
  (bytes: Buffer): Buffer => {
    bytes.writeBigUInt64LE(length, 0)
    return bytes
  }

/** The bits of one element of a tensor of half precision. */
export const half =
  (tensor: string, element: number, bits: number) =>
  (bytes: Buffer): Buffer => {
    const { end, header } = headerOf(bytes)
    bytes.writeUInt16LE(bits, end + header[tensor].data_offsets[0] + 2 * element)
    return bytes
  }
export const NAN = 0x7e00
export const INFINITY = 0x7c00
