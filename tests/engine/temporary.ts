/** A directory, and a store in one, that last as long as the test's scope. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Store } from "../../src/engine/store/Store.ts"

export const directory = Effect.acquireRelease(
  Effect.sync(() => fs.mkdtempSync(join(tmpdir(), "store-"))),
  (directory) => Effect.sync(() => fs.rmSync(directory, { recursive: true, force: true })),
)
export const store = Layer.unwrap(Effect.map(directory, (directory) => Store.layer(join(directory, "cache"))))
