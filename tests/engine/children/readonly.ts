/** `node readonly.ts <directory> <digest>`: prints a document of a store that may only be read, then what a write says. */
import * as Effect from "effect/Effect"
import { chmodSync, readdirSync } from "node:fs"
import { join } from "node:path"
import { Store } from "../../../src/engine/store/Store.ts"

const [directory, digest] = process.argv.slice(2) as [string, string]
for (const path of ["", ...readdirSync(directory)])
  chmodSync(join(directory, path), path.endsWith(".json") ? 0o444 : 0o555)
chmodSync(join(directory, ".."), 0o755)
// Root may write anywhere.
if (process.getuid?.() === 0) process.setuid!(65534)

const work = Effect.gen(function* () {
  const store = yield* Store
  console.log(Buffer.from(store.getDocument(digest)!).toString())
  const error = yield* Effect.flip(store.putDocument("[2]"))
  console.log(error.kind, error.message)
})
await Effect.runPromise(Effect.provide(work, Store.layer(directory)))
