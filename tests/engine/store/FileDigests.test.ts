import { assert, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as fs from "node:fs"
import { join } from "node:path"
import { sha256 } from "../../../src/engine/store/Codec.ts"
import { Store } from "../../../src/engine/store/Store.ts"
import * as temporary from "../temporary.ts"

/** A file nobody has touched for a while. */
const settled = new URL("../../../node_modules/lmdb/package.json", import.meta.url).pathname
const live = (name: string, test: Effect.Effect<void, unknown, Store>) =>
  it.live(name, () => Effect.provide(test, temporary.store))

live(
  "digests a file and remembers it until it changes",
  Effect.gen(function* () {
    const store = yield* Store
    assert.isUndefined(store.knownFileDigest(settled))
    const digest = yield* store.fileDigest(settled)
    assert.strictEqual(digest, sha256(fs.readFileSync(settled)))
    assert.strictEqual(store.knownFileDigest(settled), digest)
    assert.isTrue(yield* store.unchanged(settled, digest))
    assert.isFalse(yield* store.unchanged(settled, sha256("other")))
  }),
)

live(
  "does not trust a file that was touched just now",
  Effect.gen(function* () {
    const store = yield* Store
    const path = join(yield* temporary.directory, "file")
    fs.writeFileSync(path, "one")
    assert.strictEqual(yield* store.fileDigest(path), sha256("one"))
    assert.isUndefined(store.knownFileDigest(path))
    // Same length, same inode, and an old modification time, as a careless tool may leave it.
    fs.writeFileSync(path, "two")
    fs.utimesSync(path, 1, 1)
    assert.strictEqual(yield* store.fileDigest(path), sha256("two"))
    assert.isFalse(yield* store.unchanged(path, sha256("one")))
    yield* Effect.sleep("2100 millis")
    yield* store.fileDigest(path)
    assert.strictEqual(store.knownFileDigest(path), sha256("two"))
    fs.appendFileSync(path, "!")
    assert.isUndefined(store.knownFileDigest(path))
  }).pipe(Effect.scoped),
)

live(
  "says that a file keeps changing",
  Effect.gen(function* () {
    const store = yield* Store
    const path = join(yield* temporary.directory, "file")
    fs.writeFileSync(path, Buffer.alloc(9_000_000))
    const writer = yield* Effect.forkChild(
      Effect.forever(
        Effect.andThen(
          Effect.sync(() => fs.appendFileSync(path, "x")),
          Effect.yieldNow,
        ),
      ),
    )
    const error = yield* Effect.flip(store.fileDigest(path))
    yield* Fiber.interrupt(writer)
    assert.strictEqual(error.kind, "Changed")
    assert.include(error.message, path)
  }).pipe(Effect.scoped),
)

live(
  "tells a missing file and a directory from a file",
  Effect.gen(function* () {
    const store = yield* Store
    const directory = yield* temporary.directory
    assert.match((yield* Effect.flip(store.fileDigest(join(directory, "none")))).message, /^there is no file /)
    assert.strictEqual((yield* Effect.flip(store.fileDigest(directory))).kind, "Io")
    assert.isUndefined(store.knownFileDigest(directory))
    assert.isFalse(yield* store.unchanged(join(directory, "none"), sha256("")))
  }).pipe(Effect.scoped),
)
