/** Small JSON documents under their SHA-256: a record of `index` up to 64 KiB, a blob beyond. */
import * as Effect from "effect/Effect"
import * as Blobs from "./Blobs.ts"
import { decode, encode, key, Kind, sha256 } from "./Codec.ts"
import type { Database, Transaction } from "./Database.ts"
import type { StoreError } from "./StoreError.ts"

/** Bytes. */
const inline = 64 << 10

export interface Document {
  readonly digest: string
  readonly bytes: Uint8Array
}
export const document = (content: string | Uint8Array): Document => {
  const bytes = typeof content === "string" ? Buffer.from(content) : content
  return { digest: sha256(bytes), bytes }
}
export const isInline = ({ bytes }: Document) => bytes.length <= inline

/** For documents that fit a record. */
export const write = (transaction: Transaction, { digest, bytes }: Document) => {
  const at = key(Kind.document, digest)
  transaction.put(at, encode(at, bytes))
}

export const remove = (transaction: Transaction, digest: string) => transaction.remove(key(Kind.document, digest))

export const get = (index: Database, objects: Database, digest: string): Uint8Array | undefined => {
  const at = key(Kind.document, digest)
  const record = index.get(at)
  const payload = record === undefined ? Blobs.readSync(index, objects, digest) : decode(at, record)
  if (payload === undefined) return undefined
  const bytes = Uint8Array.from(payload)
  return sha256(bytes) === digest ? bytes : undefined
}

/** Present and readable, without digesting it again. */
export const has = (index: Database, digest: string): boolean => {
  const at = key(Kind.document, digest)
  const record = index.get(at)
  return record === undefined ? Blobs.manifest(index, digest) !== undefined : decode(at, record) !== undefined
}

/** Whether exactly these bytes are there, in a record. */
export const isKept = (index: Database, { digest, bytes }: Document): boolean => {
  const at = key(Kind.document, digest)
  const record = index.get(at)
  return record !== undefined && decode(at, record)?.equals(bytes) === true
}

export const put = Effect.fnUntraced(function* (
  index: Database,
  objects: Database,
  opened: number,
  content: string | Uint8Array,
): Effect.fn.Return<string, StoreError> {
  const it = document(content)
  if (!isInline(it)) yield* Blobs.put(index, objects, opened, it.bytes)
  else if (!isKept(index, it)) yield* index.write((transaction) => write(transaction, it))
  return it.digest
})
