/**
 * Bulk bytes under their SHA-256. The `objects` database holds the chunks, plain; the `index` database holds for each
 * blob a manifest with its length and a checksum of every chunk. The manifest is written last: without it the chunks
 * are litter that `gc` removes, with it they are all there.
 */
import * as Effect from "effect/Effect"
import { createCipheriv, createHash } from "node:crypto"
import type { Blob } from "../Artifact.ts"
import { decode, encode, key, Kind } from "./Codec.ts"
import type { Database, Transaction } from "./Database.ts"
import { BlobLost } from "../Problem.ts"
import type { StoreError } from "./StoreError.ts"

/** Bytes. */
export const chunkSize = 2 << 20
/** Chunks handed to the writer at a time; it packs them into transactions as the disk's speed allows. */
const inFlight = 16
/** Chunks read between two turns of the event loop: a few milliseconds. */
const stride = 8

export interface Manifest {
  readonly bytes: number
  /** When it was last put (milliseconds since 1970). Reading does not count: a run that only reads writes nothing. */
  readonly used: number
  /** The checksum of each chunk. */
  readonly chunks: ReadonlyArray<Buffer>
}

const checksumSize = 16
const checksumKey = Buffer.alloc(16)
const checksumNonce = Buffer.alloc(12)
/**
 * AES-GMAC under a fixed key, as a checksum and not as a secret: it detects what CRC-32 detects and runs at 7 GB/s where
 * zlib's CRC-32 does 4, so that every read can afford it.
 */
const checksum = (chunk: Uint8Array): Buffer => {
  const cipher = createCipheriv("aes-128-gcm", checksumKey, checksumNonce).setAAD(chunk)
  cipher.final()
  return cipher.getAuthTag()
}

/** The key of chunk `i` in `objects`. */
export const chunkKey = (digest: string, i: number): Uint8Array => {
  const bytes = Buffer.allocUnsafe(37)
  bytes.set(key(Kind.blob, digest))
  bytes.writeUInt32BE(i, 33)
  return bytes
}

const writeManifest = (transaction: Transaction, digest: string, { bytes, used, chunks }: Manifest) => {
  const lengths = Buffer.allocUnsafe(16)
  lengths.writeDoubleLE(bytes, 0)
  lengths.writeDoubleLE(used, 8)
  const at = key(Kind.blob, digest)
  transaction.put(at, encode(at, Buffer.concat([lengths, ...chunks])))
}

export const manifest = (index: Database, digest: string): Manifest | undefined => {
  const at = key(Kind.blob, digest)
  const record = index.get(at)
  const payload = record && decode(at, record)
  if (payload === undefined) return undefined
  const chunks: Array<Buffer> = []
  for (let i = 16; i < payload.length; i += checksumSize)
    chunks.push(Buffer.from(payload.subarray(i, i + checksumSize)))
  return { bytes: payload.readDoubleLE(0), used: payload.readDoubleLE(8), chunks }
}

const slices = (bytes: Uint8Array): ReadonlyArray<Uint8Array> =>
  Array.from({ length: Math.ceil(bytes.length / chunkSize) }, (_, i) =>
    bytes.subarray(i * chunkSize, (i + 1) * chunkSize),
  )

/** @param opened when the store was opened: what an earlier process put last is marked as in use by this one. */
export const put = Effect.fnUntraced(function* (
  index: Database,
  objects: Database,
  opened: number,
  bytes: Uint8Array,
): Effect.fn.Return<Blob, StoreError> {
  const hash = createHash("sha256")
  const checksums: Array<Buffer> = []
  const chunks = slices(bytes)
  for (const chunk of chunks) {
    hash.update(chunk)
    checksums.push(checksum(chunk))
    if (chunks.length > 1) yield* Effect.yieldNow
  }
  const blob = hash.digest("hex")
  const present = manifest(index, blob)
  if (present && present.used >= opened) return { blob, bytes: bytes.length }
  if (present === undefined)
    yield* Effect.forEach(
      chunks,
      (chunk, i) => objects.write((transaction) => transaction.put(chunkKey(blob, i), chunk), chunk.length),
      { concurrency: inFlight, discard: true },
    )
  const used = Date.now()
  yield* index.write((transaction) =>
    writeManifest(transaction, blob, { bytes: bytes.length, used, chunks: checksums }),
  )
  return { blob, bytes: bytes.length }
})

/** Copies chunk `i` to its place in `into`; what is wrong with it, if anything. */
const readChunk = (
  objects: Database,
  digest: string,
  { bytes, chunks }: Manifest,
  i: number,
  into: Uint8Array,
  at: number,
) => {
  const chunk = objects.get(chunkKey(digest, i))
  if (chunk === undefined) return `has lost chunk ${i + 1} of ${chunks.length}`
  if (chunk.length !== Math.min(chunkSize, bytes - i * chunkSize) || !checksum(chunk).equals(chunks[i]!))
    return `has a wrong chunk ${i + 1} of ${chunks.length}`
  into.set(chunk, at)
  return undefined
}

/**
 * The manifest goes, at once, so that a `put` that follows writes the object anew; the chunks, unreachable now, are
 * replaced by it or removed by `gc`.
 */
const drop = (index: Database, digest: string) => {
  index.writeLater((transaction) => transaction.remove(key(Kind.blob, digest)))
  index.flush()
}

export const read = Effect.fnUntraced(function* (
  index: Database,
  objects: Database,
  ref: { readonly blob: string; readonly bytes: number },
  into?: Uint8Array<SharedArrayBuffer>,
): Effect.fn.Return<Uint8Array<SharedArrayBuffer>, BlobLost> {
  const known = manifest(index, ref.blob)
  if (known === undefined) return yield* new BlobLost({ digest: ref.blob, reason: "is not in the store" })
  if (known.bytes !== ref.bytes)
    return yield* new BlobLost({ digest: ref.blob, reason: `is ${known.bytes} bytes long, not ${ref.bytes}` })
  const bytes = into?.subarray(0, known.bytes) ?? new Uint8Array(new SharedArrayBuffer(known.bytes))
  for (let i = 0; i < known.chunks.length; i++) {
    const wrong = readChunk(objects, ref.blob, known, i, bytes, i * chunkSize)
    if (wrong !== undefined) {
      drop(index, ref.blob)
      return yield* new BlobLost({ digest: ref.blob, reason: wrong })
    }
    if (i % stride === stride - 1) yield* Effect.yieldNow
  }
  return bytes
})

/** The whole blob at once, for documents that did not fit a record. */
export const readSync = (index: Database, objects: Database, digest: string): Uint8Array | undefined => {
  const known = manifest(index, digest)
  if (known === undefined) return undefined
  const bytes = new Uint8Array(known.bytes)
  for (let i = 0; i < known.chunks.length; i++)
    if (readChunk(objects, digest, known, i, bytes, i * chunkSize) !== undefined) {
      drop(index, digest)
      return undefined
    }
  return bytes
}

/** The digest of what is really there, or what is wrong with it. */
export const inspect = Effect.fnUntraced(function* (objects: Database, digest: string, known: Manifest) {
  const hash = createHash("sha256")
  const chunk = new Uint8Array(Math.min(chunkSize, known.bytes))
  for (let i = 0; i < known.chunks.length; i++) {
    const wrong = readChunk(objects, digest, known, i, chunk, 0)
    if (wrong !== undefined) return wrong
    hash.update(chunk.subarray(0, Math.min(chunkSize, known.bytes - i * chunkSize)))
    yield* Effect.yieldNow
  }
  return hash.digest("hex") === digest ? undefined : "has another digest"
})

/** The manifest; its chunks stay until `removeChunks`. */
export const remove = (transaction: Transaction, digest: string) => transaction.remove(key(Kind.blob, digest))

export const removeChunks = (objects: Database, chunks: ReadonlyArray<Uint8Array>): Effect.Effect<void, StoreError> =>
  objects.write((transaction) => chunks.forEach(transaction.remove))
