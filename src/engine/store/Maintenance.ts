/**
 * Looking after a store: what is in it, whether it is sound, and making room. None of this is needed for correct
 * results: whatever is dropped here is computed again.
 */
import * as Effect from "effect/Effect"
import * as Blobs from "./Blobs.ts"
import { decode, digestIn, Kind, sha256 } from "./Codec.ts"
import type { Files } from "./Database.ts"
import * as Directory from "./Directory.ts"
import * as Documents from "./Documents.ts"
import { evictions, type Item } from "./Eviction.ts"
import * as Owner from "./Owner.ts"
import * as Runs from "./Runs.ts"
import { Store } from "./Store.ts"
import type { StoreError } from "./StoreError.ts"
import type { Trace } from "./Trace.ts"
import * as Traces from "./Traces.ts"

/** Records between two turns of the event loop. */
const stride = 256

/** Every record of the index, raw. The value is good until the next read. */
const records = function* ({ index }: Files, kind?: Kind) {
  const kinds = kind === undefined ? Object.values(Kind) : [kind]
  for (const kind of kinds)
    for (const at of index.keys(Uint8Array.of(kind))) {
      const record = index.get(at)
      if (record !== undefined) yield { kind, at, record }
    }
}
const traces = function* (files: Files) {
  for (const { at } of records(files, Kind.trace)) {
    const trace = Traces.get(files.index, digestIn(at))
    if (trace !== undefined) yield trace
  }
}
const blobs = function* (files: Files) {
  for (const { at } of records(files, Kind.blob)) {
    const digest = digestIn(at)
    const manifest = Blobs.manifest(files.index, digest)
    if (manifest !== undefined) yield { digest, manifest }
  }
}

export interface Stats {
  readonly traces: number
  readonly documents: number
  readonly blobs: number
  /** Bytes of what is stored, keys and records included. */
  readonly liveBytes: number
  /** Bytes on disk. */
  readonly fileBytes: number
  /** Studies that run now. */
  readonly running: ReadonlyArray<string>
}

const liveBytes = (files: Files): number => {
  let bytes = 0
  for (const { at, record } of records(files)) bytes += at.length + record.length
  for (const { manifest } of blobs(files)) bytes += manifest.bytes
  return bytes
}
const count = (files: Files, kind: Kind) => files.index.keys(Uint8Array.of(kind)).reduce((n) => n + 1, 0)

export const stats: Effect.Effect<Stats, never, Store> = Effect.map(Store, ({ files, owner }) => ({
  traces: count(files, Kind.trace),
  documents: count(files, Kind.document),
  blobs: count(files, Kind.blob),
  liveBytes: liveBytes(files),
  fileBytes: files.bytes(),
  running: Runs.all(files.index, owner).live.map(({ study }) => study),
}))

export interface Wrong {
  readonly what: "record" | "document" | "blob"
  /** The digest or key it is stored under. */
  readonly name: string
  readonly reason: string
}
export interface Verified {
  /** Records and objects looked at. */
  readonly checked: number
  readonly wrong: ReadonlyArray<Wrong>
  /** Sound traces whose objects are gone: nothing is lost, they are computed again when needed. */
  readonly recomputable: ReadonlyArray<Trace>
}

/** Reads everything and digests it again. With `repair`, drops what is wrong; it is then missing and computed again. */
export const verify = Effect.fnUntraced(function* (options: {
  readonly repair: boolean
}): Effect.fn.Return<Verified, StoreError, Store> {
  const { files } = yield* Store
  const { index, objects } = files
  const wrong: Array<Wrong> = []
  let checked = 0
  for (const { kind, at, record } of records(files)) {
    const name = digestIn(at)
    const payload = decode(at, record)
    if (payload === undefined) {
      wrong.push({ what: "record", name, reason: "does not decode" })
      if (options.repair) yield* index.write((transaction) => transaction.remove(at))
    } else if (kind === Kind.document && sha256(payload) !== name) {
      wrong.push({ what: "document", name, reason: "has another digest" })
      if (options.repair) yield* index.write((transaction) => transaction.remove(at))
    }
    if (++checked % stride === 0) yield* Effect.yieldNow
  }
  for (const { digest, manifest } of blobs(files)) {
    const reason = yield* Blobs.inspect(objects, digest, manifest)
    if (reason === undefined) continue
    wrong.push({ what: "blob", name: digest, reason })
    if (options.repair) yield* index.write((transaction) => Blobs.remove(transaction, digest))
  }
  const recomputable = [...traces(files)].filter((trace) => !Traces.isComplete(index, trace))
  return { checked, wrong, recomputable }
})

export interface Collected {
  /** Objects evicted (or that would be) and their bytes. */
  readonly evicted: number
  readonly evictedBytes: number
  /** Seconds that computing them again would take, as recorded. */
  readonly rebuildSeconds: number
  readonly liveBytes: number
  readonly fileBytes: number
  /** Why the budget was not met or the files were not compacted. */
  readonly note?: string
}

/** Files this much larger than what they hold are compacted. */
const loose = 1.2
/** Chunks removed in one transaction. */
const removals = 64

/**
 * Makes room: evicts documents and blobs, cheapest to compute again per byte first, until what is left fits `maxBytes`.
 * Traces stay: they say what the bytes were. What a live run holds or has put is left alone, and so is what the traces
 * under `keep` name. Ends with a compacting copy when the files have become loose.
 */
export const gc = Effect.fnUntraced(function* (options: {
  readonly maxBytes: number
  readonly dryRun?: boolean
  readonly keep?: ReadonlyArray<string>
}): Effect.fn.Return<Collected, StoreError, Store> {
  const { files, owner } = yield* Store
  const { index, objects } = files
  const before = liveBytes(files)
  const runs = Runs.all(index, owner)
  const ids = new Set(runs.live.map(({ id }) => id))
  const since = Math.min(...runs.live.map(({ since }) => since))
  const items: Array<Item> = []
  for (const { at, record } of records(files, Kind.document))
    items.push({ digest: digestIn(at), bytes: at.length + record.length, used: 0, kind: "document" })
  for (const { digest, manifest } of blobs(files))
    items.push({ digest, bytes: manifest.bytes, used: manifest.used, kind: "blob" })
  const plan = evictions({
    items: items.filter(({ kind, used }) => (kind === "document" ? ids.size === 0 : used < since)),
    traces: [...traces(files)],
    keep: new Set([...(options.keep ?? []), ...runs.live.flatMap(({ holds }) => holds)]),
    excess: before - options.maxBytes,
  })
  const over = before - plan.bytes - options.maxBytes
  const notes = over > 0 ? [`${over} bytes over the budget are held by live runs, kept, or are traces`] : []
  const report = { evicted: plan.items.length, evictedBytes: plan.bytes, rebuildSeconds: plan.seconds }
  if (options.dryRun)
    return { ...report, liveBytes: before - plan.bytes, fileBytes: files.bytes(), ...(notes[0] && { note: notes[0] }) }

  for (const item of plan.items) {
    const done = yield* index.write((transaction) => {
      // A run that began since may count on it, and so may whoever put it again.
      if (Runs.all(index, owner).live.some(({ id }) => !ids.has(id))) return false
      if (item.kind === "document") Documents.remove(transaction, item.digest)
      else if (Blobs.manifest(index, item.digest)?.used === item.used) Blobs.remove(transaction, item.digest)
      return true
    })
    if (done) continue
    notes.push("a run began, so no more was evicted")
    break
  }
  yield* Runs.forget(index, runs.dead)
  // A chunk without a manifest may be half of what another process is putting.
  const isQuiet = () => !files.isShared() && Runs.all(index, owner).live.length === 0
  if (isQuiet()) {
    const litter = objects
      .keys(Uint8Array.of(Kind.blob))
      .filter((at) => index.get(at.subarray(0, 33)) === undefined)
      .toArray()
    for (let i = 0; i < litter.length && isQuiet(); i += removals)
      yield* Blobs.removeChunks(objects, litter.slice(i, i + removals))
  }
  const live = liveBytes(files)
  if (files.bytes() > loose * live) {
    const refusal = yield* Effect.match(files.compact, {
      onFailure: ({ reason }) => reason,
      onSuccess: () => undefined,
    })
    if (refusal !== undefined) notes.push(`not compacted: ${refusal}`)
  }
  return {
    ...report,
    liveBytes: live,
    fileBytes: files.bytes(),
    ...(notes.length > 0 && { note: notes.join("; ") }),
  }
})

/** Forgets everything, also when the store is too damaged to open. `Busy` while a process has it open. */
export const clear = (directory: string): Effect.Effect<void, StoreError> =>
  Effect.suspend(() => Directory.clear(directory, Owner.self()))
