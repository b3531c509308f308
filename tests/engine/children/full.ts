/** `node full.ts <directory>`: puts blobs until there is no room, then shows that the others are still there. */
import * as Effect from "effect/Effect"
import type { Blob } from "../../../src/engine/Artifact.ts"
import { Store } from "../../../src/engine/store/Store.ts"

const work = Effect.gen(function* () {
  const store = yield* Store
  const put: Array<Blob> = []
  const error = yield* Effect.flip(
    Effect.forEach(
      Array.from({ length: 20 }, (_, i) => i),
      (i) => Effect.map(store.putBlob(Buffer.alloc(4_000_000, i + 1)), (blob) => put.push(blob)),
    ),
  )
  console.log(error.kind, error.message)
  const read = yield* Effect.forEach(put, (blob) => store.readBlob(blob))
  console.log(put.length > 0 && read.every((bytes, i) => bytes[3_999_999] === i + 1) ? "kept" : "lost")
  const digest = yield* store.putDocument("[1]")
  console.log(store.getDocument(digest) ? "small write done" : "small write lost")
})
await Effect.runPromise(Effect.provide(work, Store.layer(process.argv[2]!)))
