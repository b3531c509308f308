import { assert, it, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as fs from "node:fs"
import { join } from "node:path"
import { chunkKey, chunkSize } from "../../../src/engine/store/Blobs.ts"
import { encode, key, Kind, sha256 } from "../../../src/engine/store/Codec.ts"
import { BlobLost } from "../../../src/engine/Problem.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import type { StoreError } from "../../../src/engine/store/StoreError.ts"
import type { Trace } from "../../../src/engine/store/Trace.ts"
import * as temporary from "../temporary.ts"

const trace = (name: string, output: string, more: Partial<Trace> = {}): Trace => ({
  key: sha256(name),
  kind: "stage",
  stage: "double",
  cell: name,
  coordinates: { size: "2" },
  output: sha256(output),
  blobs: [],
  inputs: {},
  preimage: sha256(name),
  provenance: {
    code: sha256("code"),
    runtime: { node: process.versions.node },
    platform: "here",
    cpu: "any",
    started: 1,
    seconds: 1,
    peakMemory: 0,
    study: "tests",
  },
  ...more,
})
const startedAt = (name: string, cell: string, stage: string, started: number) =>
  trace(name, "near", { cell, stage, provenance: { ...trace("", "").provenance, started } })
const flipped = (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte))

for (const [name, here] of [
  ["in memory", Store.layerMemory],
  ["in LMDB", temporary.store],
] as const)
  layer(here, { excludeTestServices: true })(`a store ${name}`, (it) => {
    it.effect.each([0, 1, chunkSize - 1, chunkSize, chunkSize + 1, 5 * chunkSize + 7])(
      "keeps a blob of %d bytes",
      (size) =>
        Effect.gen(function* () {
          const store = yield* Store
          const bytes = new Uint8Array(randomBytes(size))
          const blob = yield* store.putBlob(bytes)
          assert.deepStrictEqual(blob, { blob: sha256(bytes), bytes: size })
          assert.isTrue(store.hasBlob(blob.blob))
          assert.isTrue(Buffer.from(bytes).equals(Buffer.from(yield* store.readBlob(blob))))
          const into = new Uint8Array(new SharedArrayBuffer(size + 5))
          const read = yield* store.readBlob(blob, into)
          assert.strictEqual(read.buffer, into.buffer)
          assert.isTrue(Buffer.from(bytes).equals(Buffer.from(read)))
        }),
    )

    it.effect("writes equal bytes once", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const bytes = new Uint8Array(randomBytes(100_000))
        const blob = yield* store.putBlob(bytes)
        const at = chunkKey(blob.blob, 0)
        const manifest = () => Buffer.from(store.files.index.get(key(Kind.blob, blob.blob))!)
        yield* store.files.objects.write((transaction) => transaction.put(at, new Uint8Array(3)))
        const before = manifest()
        yield* Effect.sleep(5)
        yield* store.putBlob(bytes)
        assert.strictEqual(store.files.objects.get(at)?.length, 3)
        assert.isTrue(before.equals(manifest()))
      }),
    )

    it.effect("answers BlobLost for a missing object, and for one of another length", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const missing = yield* Effect.flip(store.readBlob({ blob: sha256("nothing"), bytes: 1 }))
        assert.instanceOf(missing, BlobLost)
        const blob = yield* store.putBlob(new Uint8Array(randomBytes(10)))
        const short = yield* Effect.flip(store.readBlob({ ...blob, bytes: 9 }))
        assert.include(short.message, "10 bytes long, not 9")
      }),
    )

    it.effect.each(["a flipped bit", "a short chunk", "no chunk"])("loses a blob with %s, and takes it again", (harm) =>
      Effect.gen(function* () {
        const store = yield* Store
        const bytes = new Uint8Array(randomBytes(2 * chunkSize + 5))
        const blob = yield* store.putBlob(bytes)
        const at = chunkKey(blob.blob, 1)
        yield* store.files.objects.write((transaction) => {
          const chunk = Uint8Array.from(store.files.objects.get(at)!)
          if (harm === "a flipped bit") transaction.put(at, flipped(chunk))
          if (harm === "a short chunk") transaction.put(at, chunk.subarray(1))
          if (harm === "no chunk") transaction.remove(at)
        })
        const lost = yield* Effect.flip(store.readBlob(blob))
        assert.strictEqual(lost.digest, blob.blob)
        assert.isFalse(store.hasBlob(blob.blob))
        yield* store.putBlob(bytes)
        assert.isTrue(Buffer.from(bytes).equals(Buffer.from(yield* store.readBlob(blob))))
      }),
    )

    it.effect.each([2, 70_000, 3 * chunkSize])("keeps a document of %d bytes", (size) =>
      Effect.gen(function* () {
        const store = yield* Store
        const text = JSON.stringify("x".repeat(size - 2))
        const digest = yield* store.putDocument(text)
        assert.strictEqual(digest, sha256(text))
        assert.strictEqual(Buffer.from(store.getDocument(digest)!).toString(), text)
        assert.isUndefined(store.getDocument(sha256(`not ${text}`)))
        yield* store.files.index.write((transaction) => {
          // A sound record of other bytes.
          const at = key(Kind.document, digest)
          if (store.files.index.get(at)) transaction.put(at, encode(at, Buffer.from("other")))
        })
        yield* store.files.objects.write((transaction) => transaction.put(chunkKey(digest, 0), Buffer.from("other")))
        assert.isUndefined(store.getDocument(digest))
        yield* store.putDocument(text)
        assert.strictEqual(Buffer.from(store.getDocument(digest)!).toString(), text)
      }),
    )

    it.effect("takes a record that is wrong, or of an unknown version, for missing, and writes it again", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const harms: ReadonlyArray<(record: Uint8Array) => Uint8Array> = [
          flipped,
          (record) => Uint8Array.from(record, (byte, i) => (i === 0 ? 99 : byte)),
          () => new Uint8Array(3),
        ]
        for (const [i, harm] of harms.entries()) {
          const it = trace(`harmed ${i}`, `{"harmed":${i}}`)
          const publication = { trace: it, documents: [`{"harmed":${i}}`], staticKey: sha256(`static ${i}`) }
          yield* store.publish(publication)
          for (const at of [
            key(Kind.trace, it.key),
            key(Kind.document, it.output),
            key(Kind.static, sha256(`static ${i}`)),
          ])
            yield* store.files.index.write((transaction) => transaction.put(at, harm(store.files.index.get(at)!)))
          assert.isUndefined(store.trace(it.key))
          assert.isUndefined(store.getDocument(it.output))
          assert.isUndefined(store.resolveStatic(sha256(`static ${i}`)))
          assert.strictEqual((yield* store.publish(publication)).outcome, "stored")
          assert.isTrue(store.isComplete(store.trace(it.key)!))
          assert.strictEqual(store.resolveStatic(sha256(`static ${i}`)), it.key)
        }
      }),
    )

    it.effect("refuses a trace that names what is not there", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const noBlob = trace("no blob", "{}", { blobs: [sha256("never put")] })
        assert.instanceOf(yield* Effect.flip(store.publish({ trace: noBlob, documents: ["{}"] })), BlobLost)
        assert.isUndefined(store.trace(noBlob.key))
        const noOutput = trace("no output", "never put either")
        assert.instanceOf(yield* Effect.flip(store.publish({ trace: noOutput })), BlobLost)
      }),
    )

    it.effect("keeps the first of two outputs, until its bytes are gone", () =>
      Effect.gen(function* () {
        const store = yield* Store
        const blob = yield* store.putBlob(new Uint8Array(randomBytes(9)))
        const [first, second] = [trace("twice", "1", { blobs: [blob.blob] }), trace("twice", "2")]
        assert.strictEqual((yield* store.publish({ trace: first, documents: ["1"] })).outcome, "stored")
        assert.strictEqual((yield* store.publish({ trace: first, documents: ["1"] })).outcome, "same")
        const event = yield* store.publish({ trace: second, documents: ["2"] })
        assert.deepStrictEqual([event.outcome, event.trace.output], ["different", sha256("1")])
        assert.strictEqual(store.trace(first.key)?.output, sha256("1"))
        yield* store.files.index.write((transaction) => transaction.remove(key(Kind.blob, blob.blob)))
        assert.strictEqual((yield* store.publish({ trace: second, documents: ["2"] })).outcome, "replaced")
        assert.strictEqual(store.trace(first.key)?.output, sha256("2"))
      }),
    )

    it.effect("lists the nearest earlier traces: same study and cell first, then same stage, newest first", () =>
      Effect.gen(function* () {
        const store = yield* Store
        for (const it of [
          startedAt("a", "near/1", "triple", 1),
          startedAt("b", "near/2", "triple", 2),
          startedAt("c", "near/1", "triple", 3),
          startedAt("d", "near/3", "triple", 4),
          startedAt("e", "near/3", "other", 5),
        ])
          yield* store.publish({ trace: it, documents: ["near"] })
        const names = (limit: number) => store.nearest("tests", "near/1", "triple", limit).map((it) => it.key)
        assert.deepStrictEqual(names(9), ["c", "a", "d", "b"].map(sha256))
        assert.deepStrictEqual(names(3), ["c", "a", "d"].map(sha256))
      }),
    )

    it.effect("keeps pre-images, facts and costs", () =>
      Effect.gen(function* () {
        const store = yield* Store
        yield* store.putPreimage(sha256("p"), '{"bits":4}')
        assert.strictEqual(store.preimage(sha256("p")), '{"bits":4}')
        assert.isUndefined(store.preimage(sha256("q")))
        store.remember("a.ts", "fact")
        yield* store.recordCost({ stage: "double", class: "small", seconds: 1, peakMemory: 10, bytes: 100 })
        yield* store.recordCost({ stage: "double", class: "small", seconds: 3, peakMemory: 30, bytes: 300 })
        assert.strictEqual(store.recall("a.ts"), "fact")
        assert.deepStrictEqual(store.costs(), [
          { stage: "double", class: "small", runs: 2, seconds: 2, peakMemory: 20, bytes: 200 },
        ])
      }),
    )

    it.effect("gives a name that is no digest no chance to meet another", () =>
      Effect.gen(function* () {
        const store = yield* Store
        assert.throws(() => store.trace("abc"), TypeError)
        assert.throws(() => store.resolveStatic("z".repeat(64)), TypeError)
      }),
    )
  })

const opened = (directory: string) => Effect.scoped(Effect.flip(Layer.build(Store.layer(directory))))
const kindOf = (error: StoreError) => [error.kind, error.message.split("\n").length]

it.live("keeps what was written when it is opened again", () =>
  Effect.gen(function* () {
    const directory = join(yield* temporary.directory, "cache")
    const bytes = new Uint8Array(randomBytes(3_000_000))
    const blob = yield* Effect.provide(
      Effect.flatMap(Store, (store) => store.putBlob(bytes)),
      Store.layer(directory),
    )
    const again = yield* Effect.provide(
      Effect.flatMap(Store, (store) => store.readBlob(blob)),
      Store.layer(directory),
    )
    assert.isTrue(Buffer.from(bytes).equals(Buffer.from(again)))
  }).pipe(Effect.scoped),
)

it.live("refuses a cache of a newer format or another LMDB, and says what to do", () =>
  Effect.gen(function* () {
    const directory = yield* temporary.directory
    fs.writeFileSync(join(directory, "current.json"), '{"format":2,"lmdb":3,"generation":1}')
    const newer = yield* opened(directory)
    assert.strictEqual(newer.kind, "Format")
    assert.match(newer.message, /has format 2 .* use a newer release/)
    fs.writeFileSync(join(directory, "current.json"), '{"format":1,"lmdb":2,"generation":1}')
    assert.match((yield* opened(directory)).message, /written with LMDB 2/)
    fs.writeFileSync(join(directory, "current.json"), "}")
    assert.deepStrictEqual(kindOf(yield* opened(directory)), ["Damaged", 1])
  }).pipe(Effect.scoped),
)

it.live.each(["foreign", "short", "cut"])("refuses a %s LMDB file instead of crashing", (harm) =>
  Effect.gen(function* () {
    const directory = yield* temporary.directory
    yield* Effect.provide(
      Effect.flatMap(Store, (store) => store.putBlob(new Uint8Array(8_000_000))),
      Store.layer(directory),
    )
    const file = join(directory, "generation-1", "objects.mdb")
    if (harm === "foreign") fs.writeFileSync(file, Buffer.alloc(100_000, 7))
    if (harm === "short") fs.writeFileSync(file, "short")
    if (harm === "cut") fs.truncateSync(file, 2_000_000)
    const error = yield* opened(directory)
    assert.deepStrictEqual(kindOf(error), ["Damaged", 1])
    assert.include(error.message, "clear the cache")
  }).pipe(Effect.scoped),
)

const child = (name: string, ...args: ReadonlyArray<string>) => {
  const path = new URL(`../children/${name}`, import.meta.url).pathname
  const { stdout, stderr, status } = spawnSync(process.execPath, [path, ...args], { encoding: "utf8" })
  return { lines: stdout.trim().split("\n"), stderr, status }
}

it.live("reads a directory that it may not write, and says so when asked to write", () =>
  Effect.gen(function* () {
    const directory = yield* temporary.directory
    const digest = yield* Effect.provide(
      Effect.flatMap(Store, (store) => store.putDocument("[1]")),
      Store.layer(join(directory, "cache")),
    )
    const { lines, stderr } = child("readonly.ts", join(directory, "cache"), digest)
    assert.strictEqual(lines[0], "[1]", stderr)
    assert.match(lines[1]!, /^ReadOnly the cache .* cannot be written/)
  }).pipe(Effect.scoped),
)

it.live("says in one sentence that there is no room, loses nothing, and goes on when there is", () =>
  Effect.gen(function* () {
    const directory = yield* temporary.directory
    const path = new URL("../children/full.ts", import.meta.url).pathname
    const { stdout, stderr } = spawnSync(
      "bash",
      ["-c", 'ulimit -f 30000; exec "$0" "$@"', process.execPath, path, join(directory, "cache")],
      { encoding: "utf8" },
    )
    const [error, kept, small] = stdout.trim().split("\n")
    assert.match(error!, /^(Full|Io) .*cache/, stderr)
    assert.strictEqual(kept, "kept")
    assert.strictEqual(small, "small write done")
  }).pipe(Effect.scoped),
)
