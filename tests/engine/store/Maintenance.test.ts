import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { once } from "node:events"
import * as fs from "node:fs"
import { join } from "node:path"
import { chunkKey } from "../../../src/engine/store/Blobs.ts"
import { encode, key, Kind, sha256 } from "../../../src/engine/store/Codec.ts"
import * as Maintenance from "../../../src/engine/store/Maintenance.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import { keyOf, traceOf } from "../children/workload.ts"
import * as temporary from "../temporary.ts"

const live = (name: string, test: Effect.Effect<void, unknown, Store>) =>
  it.live(name, () => Effect.provide(test, temporary.store))
const megabyte = 1_000_000

/** Result `i`: a blob of so many bytes that took so many seconds. */
const result = Effect.fnUntraced(function* (i: number, bytes: number, seconds: number) {
  const store = yield* Store
  const blob = yield* store.putBlob(new Uint8Array(randomBytes(bytes)))
  const output = JSON.stringify({ i, blob })
  const trace = traceOf(i, sha256(output), [blob.blob])
  yield* store.publish({
    trace: { ...trace, provenance: { ...trace.provenance, seconds } },
    documents: [output],
    preimage: `{"i":${i}}`,
  })
  return blob
})
/** Which of the results still have their blobs. */
const left = (blobs: ReadonlyArray<{ readonly blob: string }>) =>
  Effect.map(Store, (store) => blobs.flatMap(({ blob }, i) => (store.hasBlob(blob) ? [i] : [])))

live(
  "counts what is there",
  Effect.gen(function* () {
    const store = yield* Store
    yield* result(1, megabyte, 1)
    yield* result(2, megabyte, 1)
    const { liveBytes, fileBytes, ...counts } = yield* store.withRun({ study: "s", holds: [] }, Maintenance.stats)
    assert.deepStrictEqual(counts, { traces: 2, documents: 2, blobs: 2, running: ["s"] })
    assert.isAbove(liveBytes, 2 * megabyte)
    assert.isAtLeast(fileBytes, liveBytes)
    assert.deepStrictEqual((yield* Maintenance.stats).running, [])
  }),
)

live(
  "verify finds every wrong byte, repair drops it, and what it was computed for can be computed again",
  Effect.gen(function* () {
    const store = yield* Store
    const { index, objects } = store.files
    const blobs = yield* Effect.forEach([0, 1, 2, 3], (i) => result(i, 3 * megabyte, 1))
    assert.deepStrictEqual((yield* Maintenance.verify({ repair: false })).wrong, [])

    const output = store.trace(keyOf(2))!.output
    yield* objects.write((transaction) => transaction.put(chunkKey(blobs[1]!.blob, 1), new Uint8Array(9)))
    yield* index.write((transaction) => {
      // A document whose checksum is right and whose digest is not.
      const at = key(Kind.document, output)
      transaction.put(at, encode(at, Buffer.from("{}")))
      transaction.put(key(Kind.trace, keyOf(3)), new Uint8Array(20))
    })
    const found = yield* Maintenance.verify({ repair: false })
    const seen = found.wrong.map(({ what, name }) => `${what} ${name}`).toSorted()
    assert.deepStrictEqual(seen, [`blob ${blobs[1]!.blob}`, `document ${output}`, `record ${keyOf(3)}`].toSorted())

    yield* Maintenance.verify({ repair: true })
    const repaired = yield* Maintenance.verify({ repair: false })
    assert.deepStrictEqual(repaired.wrong, [])
    assert.deepStrictEqual(repaired.recomputable.map((trace) => trace.key).toSorted(), [keyOf(1), keyOf(2)].toSorted())
    assert.strictEqual((yield* result(3, 10, 1)).bytes, 10)
  }),
)

live(
  "gc evicts what is cheapest to compute again per byte, and keeps the traces",
  Effect.gen(function* () {
    const store = yield* Store
    const blobs = [
      yield* result(0, megabyte, 100),
      yield* result(1, megabyte, 1),
      yield* result(2, 4 * megabyte, 100),
      yield* result(3, megabyte, 10),
    ]
    const unnamed = yield* store.putBlob(new Uint8Array(megabyte))
    const { liveBytes } = yield* Maintenance.stats

    const plan = yield* Maintenance.gc({ maxBytes: liveBytes - 2.5 * megabyte, dryRun: true })
    assert.deepStrictEqual([plan.evicted, plan.rebuildSeconds], [3, 11])
    assert.deepStrictEqual(yield* left(blobs), [0, 1, 2, 3])

    const done = yield* Maintenance.gc({ maxBytes: liveBytes - 2.5 * megabyte })
    assert.isAtMost(done.liveBytes, liveBytes - 2.5 * megabyte)
    assert.isUndefined(done.note)
    assert.isFalse(store.hasBlob(unnamed.blob))
    assert.deepStrictEqual(yield* left(blobs), [0, 2])
    assert.strictEqual(store.trace(keyOf(1))?.key, keyOf(1))
    assert.isFalse(store.isComplete(store.trace(keyOf(1))!))
    assert.strictEqual((yield* Maintenance.verify({ repair: false })).recomputable.length, 2)
  }),
)

live(
  "gc leaves alone what is kept, and what a live run holds or has put, and says that it is over",
  Effect.gen(function* () {
    const store = yield* Store
    const blobs = yield* Effect.forEach([0, 1, 2], (i) => result(i, megabyte, 1))
    const kept = yield* Maintenance.gc({ maxBytes: 0, keep: [keyOf(1)] })
    assert.deepStrictEqual(yield* left(blobs), [1])
    assert.include(kept.note!, "over the budget")

    const put = yield* result(3, megabyte, 1)
    yield* store.withRun({ study: "s", holds: [] }, Maintenance.gc({ maxBytes: 0 }))
    assert.deepStrictEqual(yield* left([...blobs, put]), [1, 3])
  }),
)

it.live("gc leaves what a live run of another process holds, and what a dead one held goes", () =>
  Effect.gen(function* () {
    const directory = join(yield* temporary.directory, "cache")
    const inStore = <A, E>(effect: Effect.Effect<A, E, Store>) => Effect.provide(effect, Store.layer(directory))
    const blobs = yield* inStore(Effect.forEach([0, 1], (i) => result(i, megabyte, 1)))
    const path = new URL("../children/run.ts", import.meta.url).pathname
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(process.execPath, [path, directory, keyOf(1)], { stdio: ["ignore", "pipe", "inherit"] })),
      (child) => Effect.sync(() => child.kill("SIGKILL")),
    )
    yield* Effect.promise(() => once(child.stdout, "data"))
    const held = yield* inStore(Maintenance.gc({ maxBytes: 0 }))
    assert.deepStrictEqual(yield* inStore(left(blobs)), [1])
    assert.include(held.note!, `in use by process ${child.pid}`)
    assert.strictEqual((yield* Effect.flip(Maintenance.clear(directory))).kind, "Busy")
    assert.deepStrictEqual(yield* inStore(left(blobs)), [1])

    const ended = once(child, "exit")
    child.kill("SIGKILL")
    yield* Effect.promise(() => ended)
    const free = yield* inStore(Maintenance.gc({ maxBytes: 0 }))
    assert.notInclude(free.note ?? "", "in use")
    assert.deepStrictEqual(yield* inStore(left(blobs)), [])
  }).pipe(Effect.scoped),
)

live(
  "gc removes chunks that no manifest names, and gives the space back",
  Effect.gen(function* () {
    const store = yield* Store
    const blobs = yield* Effect.forEach([0, 1, 2, 3, 4, 5, 6, 7], (i) => result(i, 3 * megabyte, 10 - i))
    for (const { blob } of blobs.slice(6))
      yield* store.files.index.write((transaction) => transaction.remove(key(Kind.blob, blob)))
    const { liveBytes } = yield* Maintenance.stats
    const collected = yield* Maintenance.gc({ maxBytes: liveBytes - 9 * megabyte })
    assert.isUndefined(collected.note)
    assert.isAtMost(collected.fileBytes, 1.5 * collected.liveBytes)
    assert.deepStrictEqual(yield* left(blobs), [0, 1, 2])
    assert.isUndefined(store.files.objects.get(chunkKey(blobs[7]!.blob, 0)))
    // It goes on in the new files.
    yield* store.readBlob(blobs[0]!)
    const more = yield* result(9, megabyte, 1)
    yield* store.readBlob(more)
    assert.deepStrictEqual((yield* Maintenance.verify({ repair: false })).wrong, [])
  }),
)

it.live("what is written while the files are compacted is not lost, and others find the new files", () =>
  Effect.gen(function* () {
    const directory = join(yield* temporary.directory, "cache")
    const written = yield* Effect.provide(
      Effect.gen(function* () {
        const store = yield* Store
        yield* result(1, 20 * megabyte, 1)
        const compacting = yield* Effect.forkChild(store.files.compact)
        const written: Array<string> = []
        while (compacting.pollUnsafe() === undefined) written.push(yield* store.putDocument(`${written.length}`))
        yield* Fiber.join(compacting)
        return written
      }),
      Store.layer(directory),
    )
    assert.deepStrictEqual(fs.readdirSync(directory).toSorted(), ["current.json", "generation-2", "holders"])
    yield* Effect.provide(
      Effect.gen(function* () {
        const store = yield* Store
        const lost = written.filter((digest) => store.getDocument(digest) === undefined)
        assert.deepStrictEqual(lost, [])
        assert.strictEqual((yield* Maintenance.stats).blobs, 1)
      }),
      Store.layer(directory),
    )
  }).pipe(Effect.scoped),
)

it.live("clear forgets everything, also a cache that is too damaged to open", () =>
  Effect.gen(function* () {
    const directory = join(yield* temporary.directory, "cache")
    const inStore = <A, E>(effect: Effect.Effect<A, E, Store>) => Effect.provide(effect, Store.layer(directory))
    const open = yield* Effect.scoped(
      Effect.gen(function* () {
        const context = yield* Layer.build(Store.layer(directory))
        yield* Effect.provide(result(1, megabyte, 1), context)
        return yield* Effect.flip(Maintenance.clear(directory))
      }),
    )
    assert.strictEqual(open.kind, "Busy")
    assert.strictEqual((yield* inStore(Maintenance.stats)).traces, 1)
    fs.writeFileSync(join(directory, "generation-1", "index.mdb"), "not LMDB")
    yield* Maintenance.clear(directory)
    assert.deepStrictEqual((yield* inStore(Maintenance.stats)).traces, 0)
    assert.isFalse(fs.existsSync(join(directory, "generation-1")))
  }).pipe(Effect.scoped),
)
