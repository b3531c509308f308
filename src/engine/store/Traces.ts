/** Traces, the static keys that lead to them, their pre-images, and the two orders in which `nearest` walks them. */
import * as Blobs from "./Blobs.ts"
import { decode, digestIn, encode, key, Kind, sha256 } from "./Codec.ts"
import type { Database, Transaction } from "./Database.ts"
import * as Documents from "./Documents.ts"
import type { Lease } from "./Leases.ts"
import * as Leases from "./Leases.ts"
import type { Published, Trace } from "./Trace.ts"

const text = (index: Database, kind: Kind, name: string): string | undefined => {
  const at = key(kind, name)
  const record = index.get(at)
  return record && decode(at, record)?.toString()
}
const putText = (transaction: Transaction, kind: Kind, name: string, content: string) => {
  const at = key(kind, name)
  transaction.put(at, encode(at, Buffer.from(content)))
}

export const get = (index: Database, name: string): Trace | undefined => {
  const json = text(index, Kind.trace, name)
  return json === undefined ? undefined : (JSON.parse(json) as Trace)
}
export const isComplete = (index: Database, trace: Trace): boolean =>
  Documents.has(index, trace.output) && trace.blobs.every((blob) => Blobs.manifest(index, blob) !== undefined)

export const resolveStatic = (index: Database, staticKey: string): string | undefined => {
  const at = key(Kind.static, staticKey)
  const record = index.get(at)
  return record && decode(at, record)?.toString("hex")
}
export const linkStatic = (transaction: Transaction, staticKey: string, contentKey: string) => {
  const at = key(Kind.static, staticKey)
  transaction.put(at, encode(at, Buffer.from(contentKey, "hex")))
}

export const preimage = (index: Database, name: string) => text(index, Kind.preimage, name)
export const putPreimage = (transaction: Transaction, name: string, content: string) =>
  putText(transaction, Kind.preimage, name, content)

/** `kind · digest of the group · start time, big-endian · trace key`: a group in order of time. */
const orderKey = (kind: Kind, group: string, trace: Trace): Uint8Array => {
  const time = Buffer.alloc(8)
  time.writeBigUInt64BE(BigInt(Math.trunc(trace.provenance.started)))
  return Buffer.concat([key(kind, sha256(group)), time, Buffer.from(trace.key, "hex")])
}
const cellGroup = (study: string, cell: string) => JSON.stringify([study, cell])
const orderKeys = (trace: Trace) => [
  orderKey(Kind.byCell, cellGroup(trace.provenance.study, trace.cell), trace),
  orderKey(Kind.byStage, trace.stage, trace),
]

export const nearest = (
  index: Database,
  study: string,
  cell: string,
  stage: string,
  limit: number,
): ReadonlyArray<Trace> => {
  const found = new Map<string, Trace>()
  const groups = [key(Kind.byCell, sha256(cellGroup(study, cell))), key(Kind.byStage, sha256(stage))]
  for (const group of groups)
    for (const entry of index.keys(group, true)) {
      if (found.size >= limit) return [...found.values()]
      const trace = get(index, digestIn(entry, 41))
      if (trace) found.set(trace.key, trace)
    }
  return [...found.values()]
}

export const write = (transaction: Transaction, trace: Trace) => {
  putText(transaction, Kind.trace, trace.key, JSON.stringify(trace))
  for (const at of orderKeys(trace)) transaction.put(at, encode(at, new Uint8Array(0)))
}
export const remove = (transaction: Transaction, trace: Trace) => {
  for (const at of [key(Kind.trace, trace.key), ...orderKeys(trace)]) transaction.remove(at)
}

export interface Publication {
  readonly trace: Trace
  readonly documents: ReadonlyArray<Documents.Document>
  readonly preimage: string | undefined
  readonly staticKey: string | undefined
  readonly lease: Lease | undefined
}

/** Inside a write transaction: returns the digest of what is missing, or what became of the trace. */
export const publish = (
  index: Database,
  transaction: Transaction,
  { trace, documents, preimage, staticKey, lease }: Publication,
): Published | { readonly outcome: "missing"; readonly digest: string } => {
  if (lease && !Leases.holds(index, lease)) return { outcome: "fenced", trace: get(index, trace.key) ?? trace }
  for (const it of documents) if (!Documents.isKept(index, it)) Documents.write(transaction, it)
  const missing = [trace.output].filter((digest) => !Documents.has(index, digest))
  missing.push(...trace.blobs.filter((digest) => Blobs.manifest(index, digest) === undefined))
  if (missing.length > 0) return { outcome: "missing", digest: missing[0]! }

  const before = get(index, trace.key)
  const stands = before && before.output !== trace.output && isComplete(index, before) ? before : trace
  if (stands === trace) {
    if (before) remove(transaction, before)
    write(transaction, trace)
  }
  if (preimage !== undefined) putPreimage(transaction, trace.preimage, preimage)
  if (staticKey !== undefined) linkStatic(transaction, staticKey, trace.key)
  if (lease) Leases.release(transaction, lease)
  const outcome =
    before === undefined
      ? "stored"
      : before.output === trace.output
        ? "same"
        : stands === before
          ? "different"
          : "replaced"
  return { outcome, trace: stands }
}
