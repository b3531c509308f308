/**
 * The cache's bars: writing at half the disk's speed or better, reading back warm at 3 GB/s or better, the event
 * loop turning 20 times a second meanwhile, and files at most half again as large as what they hold after gc.
 */
import * as Effect from "effect/Effect"
import { randomFillSync } from "node:crypto"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { key, Kind, sha256 } from "../../src/engine/store/Codec.ts"
import * as Maintenance from "../../src/engine/store/Maintenance.ts"
import { Store } from "../../src/engine/store/Store.ts"
import type { Trace } from "../../src/engine/store/Trace.ts"
import type { Row } from "./Row.ts"

const size = 16 * 2 ** 20
const count = 32
const total = size * count

const random = (): Uint8Array => randomFillSync(new Uint8Array(size))
/** MB/s. */
const rate = (bytes: number, since: number) => bytes / (performance.now() - since) / 1e3

/** MB/s of the same bytes into one file, on disk when it ends. */
const sequential = (path: string, blob: Uint8Array): number => {
  const since = performance.now()
  const file = fs.openSync(path, "w")
  for (let i = 0; i < count; i++) fs.writeSync(file, blob)
  fs.fsyncSync(file)
  fs.closeSync(file)
  return rate(total, since)
}

/** GB/s of copying the same bytes within memory. */
const copying = (blobs: ReadonlyArray<Uint8Array>, into: () => Uint8Array): number => {
  const since = performance.now()
  for (const bytes of blobs) into().set(bytes)
  return rate(total, since) / 1000
}

const cells = 10_000

/** Cells a second that a run in which nothing changed looks up: static key, trace, and whether its objects are there. */
const lookups = Effect.gen(function* () {
  const store = yield* Store
  const names = Array.from({ length: cells }, (_, i) => sha256(`cell ${i}`))
  const blobs = yield* Effect.forEach([1, 2, 3, 4], (i) => store.putBlob(new Uint8Array(1000).fill(i)))
  const publish = (name: string) => {
    const output = JSON.stringify({ name })
    const trace: Trace = {
      key: name,
      kind: "stage",
      stage: "measure",
      cell: name,
      coordinates: { weights: "w4-g64", kv: "w4", task: "perplexity" },
      output: sha256(output),
      blobs: blobs.map(({ blob }) => blob),
      inputs: { model: [name], stats: [name] },
      preimage: name,
      provenance: {
        code: name,
        runtime: { node: "24" },
        platform: "any",
        cpu: "any",
        started: 1,
        seconds: 1,
        peakMemory: 0,
        study: "bench",
      },
    }
    return store.publish({ trace, documents: [output], staticKey: name })
  }
  yield* Effect.forEach(names, publish, { concurrency: 64, discard: true })
  const pass = () => {
    const since = performance.now()
    for (const name of names) {
      const trace = store.trace(store.resolveStatic(name)!)
      if (trace === undefined || !store.isComplete(trace)) throw new Error(`cell ${name} is lost`)
    }
    return cells / ((performance.now() - since) / 1000)
  }
  const bare = () => {
    const since = performance.now()
    for (const name of names) store.files.index.get(key(Kind.trace, name))
    return cells / ((performance.now() - since) / 1000)
  }
  return { cells: Math.max(pass(), pass(), pass()), records: Math.max(bare(), bare(), bare()) }
})

const measure = Effect.fnUntraced(function* (directory: string) {
  const store = yield* Store
  const looked = yield* lookups
  const disk = sequential(join(directory, "sequential"), random())
  fs.rmSync(join(directory, "sequential"))

  const blobs = Array.from({ length: count }, random)
  const pauses = monitorEventLoopDelay({ resolution: 1 })
  pauses.enable()
  const since = performance.now()
  const references = yield* Effect.forEach(blobs, (bytes) => store.putBlob(bytes))
  const written = rate(total, since)
  pauses.disable()

  const buffer = new Uint8Array(new SharedArrayBuffer(size))
  const readAll = (into?: Uint8Array<SharedArrayBuffer>) =>
    Effect.gen(function* () {
      const since = performance.now()
      for (const reference of references) yield* store.readBlob(reference, into)
      return rate(total, since) / 1000
    })
  yield* readAll(buffer)
  const warm = Math.max(yield* readAll(buffer), yield* readAll(buffer), yield* readAll(buffer))
  const fresh = Math.max(yield* readAll(), yield* readAll())
  const copy = copying(blobs, () => buffer)
  const freshCopy = copying(blobs, () => new Uint8Array(new SharedArrayBuffer(size)))

  const collected = yield* Maintenance.gc({ maxBytes: total / 2 })
  const rows: ReadonlyArray<Row> = [
    { what: "put, durable", value: written, unit: "MB/s", bar: disk / 2, limit: disk },
    { what: "put, event loop turns at p99", value: 1e9 / pauses.percentile(99), unit: "/s", bar: 20, limit: 1000 },
    { what: "warm read, buffer in use", value: warm, unit: "GB/s", bar: 3, limit: copy },
    { what: "warm read, fresh memory", value: fresh, unit: "GB/s", bar: 1, limit: freshCopy },
    { what: "unchanged cells looked up", value: looked.cells, unit: "/s", bar: 50_000, limit: looked.records },
    {
      what: "live data / files after gc",
      value: collected.liveBytes / collected.fileBytes,
      unit: "",
      bar: 1 / 1.5,
      limit: 1,
    },
  ]
  return rows
})

export const bench = (): Promise<ReadonlyArray<Row>> => {
  const directory = fs.mkdtempSync(join(tmpdir(), "cache-bench-"))
  return Effect.runPromise(
    measure(directory).pipe(
      Effect.provide(Store.layer(join(directory, "cache"))),
      Effect.ensuring(Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true }))),
    ),
  )
}
