/**
 * The store's records: `version u8 · kind u8 · zero u16 · crc32 u32 · payload`, where the CRC-32 covers the key and the
 * payload. What does not decode is a miss.
 *
 * Keys are a kind byte and the 32 bytes of a digest, so that one database holds every kind and a kind is a range.
 */
import { hash } from "node:crypto"
import { crc32 } from "node:zlib"

const version = 1
const header = 8

/** The kinds of record in the `index` database; the byte is part of every key. */
export const Kind = {
  system: 0x01,
  trace: 0x02,
  static: 0x03,
  document: 0x04,
  preimage: 0x05,
  blob: 0x06,
  cost: 0x07,
  file: 0x08,
  fact: 0x09,
  byCell: 0x0a,
  byStage: 0x0b,
  lease: 0x0c,
  run: 0x0d,
} as const
export type Kind = (typeof Kind)[keyof typeof Kind]

/** Lower-case hexadecimal SHA-256. */
export const sha256 = (content: string | Uint8Array): string => hash("sha256", content, "hex")

/** A key of 33 bytes. A name that is not a digest is a defect: cut short, it could meet another. */
export const key = (kind: Kind, digest: string): Uint8Array => {
  const bytes = Buffer.allocUnsafe(33)
  bytes[0] = kind
  if (digest.length !== 64 || bytes.write(digest, 1, "hex") !== 32) throw new TypeError(`not a SHA-256: ${digest}`)
  return bytes
}

/** The digest at `offset` of a key. */
export const digestIn = (bytes: Uint8Array, offset = 1): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset + offset, 32).toString("hex")

const checksum = (key: Uint8Array, payload: Uint8Array) => crc32(payload, crc32(key))

export const encode = (key: Uint8Array, payload: Uint8Array): Uint8Array => {
  const record = Buffer.allocUnsafe(header + payload.length)
  record[0] = version
  record[1] = key[0]!
  record.writeUInt16LE(0, 2)
  record.writeUInt32LE(checksum(key, payload), 4)
  record.set(payload, header)
  return record
}

/** The payload (a view of `record`), or `undefined` for an unknown version or a wrong checksum. */
export const decode = (key: Uint8Array, record: Uint8Array): Buffer | undefined => {
  if (record.length < header || record[0] !== version || record[1] !== key[0]) return undefined
  const view = Buffer.from(record.buffer, record.byteOffset, record.byteLength)
  const payload = view.subarray(header)
  return view.readUInt32LE(4) === checksum(key, payload) ? payload : undefined
}
